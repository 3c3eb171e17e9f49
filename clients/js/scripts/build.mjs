// Makes dist/: ES modules with types by tsc, the same as CommonJS beside them in dist/cjs, and the
// schema of the gRPC services, from proto/ at the root of the repository, as a module.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PROTO = fileURLToPath(new URL("../../../proto", import.meta.url));
const SERVICES = ["event", "connection", "catalog", "store"].map((name) => `tidings/v1/${name}_service.proto`);
const require = createRequire(import.meta.url);

/** The schema as protobuf.js writes it in JSON: nothing has to be read from files at run time. */
function schema() {
  // protobuf.js comes with the loader that reads this.
  const protobuf = createRequire(require.resolve("@grpc/proto-loader"))("protobufjs");
  const root = new protobuf.Root();
  root.resolvePath = (_, target) => (target.startsWith("google/protobuf/") ? target : `${PROTO}/${target}`);
  root.loadSync(SERVICES, { keepCase: false });
  return JSON.stringify(root.toJSON());
}

rmSync(`${ROOT}/dist`, { recursive: true, force: true });
execFileSync(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", `${ROOT}/tsconfig.json`], { stdio: "inherit" });
writeFileSync(`${ROOT}/dist/schema.js`, `export const schema = ${schema()};\n`);

const modules = readdirSync(`${ROOT}/src`).filter((name) => name.endsWith(".ts"));
await build({
  entryPoints: modules.filter((name) => name !== "schema.ts").map((name) => `${ROOT}/src/${name}`).concat(`${ROOT}/dist/schema.js`),
  entryNames: "[name]",
  outdir: `${ROOT}/dist/cjs`,
  format: "cjs",
  target: "es2022",
  sourcemap: true,
  sourcesContent: false,
  // Jest has no `import()` for CommonJS.
  supported: { "dynamic-import": false },
  // Only a worker's address is made of it; where it is not known, `worker` names it.
  define: { "import.meta.url": "undefined" },
  logLevel: "warning",
});
mkdirSync(`${ROOT}/dist/cjs`, { recursive: true });
writeFileSync(`${ROOT}/dist/cjs/package.json`, '{"type":"commonjs"}\n');
for (const name of readdirSync(`${ROOT}/dist`)) {
  if (name.endsWith(".d.ts")) copyFileSync(`${ROOT}/dist/${name}`, `${ROOT}/dist/cjs/${name}`);
}
