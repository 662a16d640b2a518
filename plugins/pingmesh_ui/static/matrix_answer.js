/** The binary matrix: "PMM1" | u32 header length | header JSON | u16 codes, row by row. */
import { failure } from "./api_error.js";

export async function fetchMatrix(url, signal) {
  const response = await fetch(url, { signal, credentials: "same-origin" });
  if (!response.ok) {
    throw await failure(response);
  }
  return readMatrix(await response.arrayBuffer());
}

export function readMatrix(buffer) {
  const bytes = new DataView(buffer);
  if (buffer.byteLength < 8 || bytes.getUint32(0, false) !== 0x504d4d31) {
    throw Object.assign(
      new Error("the answer is no matrix; is something between this page and Airflow?"),
      { code: "bad_answer" },
    );
  }
  const length = bytes.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  return { header, codes: new Uint16Array(buffer, 8 + length, header.side ** 2) };
}
