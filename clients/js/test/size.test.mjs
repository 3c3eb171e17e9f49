// The size of the code that pages load.
import assert from "node:assert/strict";
import { build } from "esbuild";
import { readdirSync, readFileSync } from "node:fs";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LIMIT = 10 * 1024;

it("the core is under 10 KiB, minified and gzipped", async (t) => {
  const { outputFiles } = await build({ entryPoints: [`${ROOT}/dist/index.js`], bundle: true, minify: true, format: "esm", write: false });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  t.diagnostic(`${bytes} bytes`);
  assert.ok(bytes < LIMIT, `${bytes} bytes`);
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
