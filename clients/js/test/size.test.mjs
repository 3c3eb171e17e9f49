// The size of the code that pages load.
import assert from "node:assert/strict";
import { build } from "esbuild";
import { readdirSync, readFileSync } from "node:fs";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LIMIT = 10 * 1024;

/** The sizes of what a page loads at once, and of the HTTP transport, which it loads where WebSockets are blocked. */
async function sizes() {
  const options = { bundle: true, minify: true, format: "esm", splitting: true, outdir: "/out", write: false, metafile: true };
  const { outputFiles, metafile } = await build({ entryPoints: [`${ROOT}/dist/index.js`], ...options });
  const size = (name) => gzipSync(outputFiles.find(({ path }) => path.endsWith(name.split("/").at(-1))).contents, { level: 9 }).length;
  const [entry] = Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint?.endsWith("dist/index.js"));
  const at = (name) => [name, ...metafile.outputs[name].imports.filter(({ kind }) => kind === "import-statement").flatMap(({ path }) => at(path))];
  const core = new Set(at(entry));
  const sum = (names) => names.map(size).reduce((one, other) => one + other, 0);
  return { core: sum([...core]), later: sum(Object.keys(metafile.outputs).filter((name) => !core.has(name))) };
}

it("the core is under 10 KiB, minified and gzipped", async (t) => {
  const { core: bytes, later } = await sizes();
  t.diagnostic(`${bytes} bytes, and ${later} where WebSockets are blocked`);
  assert.ok(bytes < LIMIT, `${bytes} bytes`);
  assert.ok(later > 1000 && later < 3 * 1024, `${later} bytes`);
  assert.ok(bytes > 1000, "that can't be all of it");
});

it("it has no dependencies, and the lock file names no registry", () => {
  const { dependencies } = JSON.parse(readFileSync(`${ROOT}/package.json`, "utf8"));
  assert.equal(dependencies, undefined);
  assert.doesNotMatch(readFileSync(`${ROOT}/package-lock.json`, "utf8"), /"resolved"/);
  const imports = readdirSync(`${ROOT}/dist`)
    .filter((file) => file.endsWith(".js"))
    .flatMap((file) => [...readFileSync(`${ROOT}/dist/${file}`, "utf8").matchAll(/from "([^"]+)"/g)].map(([, from]) => [file, from]));
  assert.ok(imports.length > 10);
  const entries = { react: ["react.js"], vue: ["vue.js"], "@grpc/grpc-js": ["node.js"], "@grpc/proto-loader": ["node.js"], "node:crypto": ["node.js"] };
  for (const [file, from] of imports) assert.ok(from.startsWith("./") || entries[from]?.includes(file), `${file} imports ${from}`);
});
