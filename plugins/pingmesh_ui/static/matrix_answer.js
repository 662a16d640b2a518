/**
 * The binary answer `matrix`: "PMM1" | u32 length of header | header JSON | u16 codes, row by row.
 */
import { apiError, pageError } from "./api_error.js";

/** @import { MatrixHeader } from "../types/api.js" */

/** "PMM1", big-endian. */
const MAGIC = 0x504d4d31;

/**
 * @typedef {{ header: MatrixHeader, codes: Uint16Array<ArrayBuffer> }} Matrix `side` × `side`
 *   codes, row = source
 */

/**
 * @param {string} url
 * @param {AbortSignal} [signal]
 */
export async function fetchMatrix(url, signal) {
  const response = await fetch(url, { signal, credentials: "same-origin" });
  if (!response.ok) {
    throw await apiError(response);
  }
  return readMatrix(await response.arrayBuffer());
}

/**
 * @param {ArrayBuffer} buffer
 * @returns {Matrix}
 */
export function readMatrix(buffer) {
  const bytes = new DataView(buffer);
  if (buffer.byteLength < 8 || bytes.getUint32(0, false) !== MAGIC) {
    throw pageError(
      "the answer is no matrix; is something between this page and Airflow?",
      "bad_answer",
    );
  }
  const length = bytes.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  return { header, codes: new Uint16Array(buffer, 8 + length, header.side ** 2) };
}
