// Builds ../static/vendor/echarts.js from the pinned packages: `npm ci && npm run build`. `--check` compares instead.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";

const TARGET = new URL("../static/vendor/echarts.js", import.meta.url);
const { version } = JSON.parse(await readFile(new URL("node_modules/echarts/package.json", import.meta.url), "utf8"));
const result = await build({
  entryPoints: ["echarts_parts.js"],
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  banner: { js: `/*! Apache ECharts ${version} (Apache-2.0) and zrender (BSD-3-Clause): see LICENSE, NOTICE beside this file. */` },
  write: false,
});
const bytes = result.outputFiles[0].contents;
if (process.argv.includes("--check")) {
  if (!Buffer.from(bytes).equals(await readFile(TARGET))) {
    console.error("static/vendor/echarts.js is not what the pinned packages give: run npm run build");
    process.exit(1);
  }
} else {
  await writeFile(TARGET, bytes);
}
console.log(`echarts ${version}: ${bytes.length} bytes`);
