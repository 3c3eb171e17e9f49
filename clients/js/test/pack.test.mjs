// The package as a user gets it from the registry: packed, and installed in a fresh directory.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { startServer, token } from "./support/server.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const ENTRIES = ["", "/react", "/vue", "/svelte", "/node", "/shared"];

describe("the packed file", () => {
  let dir, server;
  const run = (command, args, env = {}) => execFileSync(command, args, { cwd: dir, encoding: "utf8", stdio: "pipe", timeout: 60_000, env: { ...process.env, ...env } });
  const home = () => `${dir}/node_modules/@tidings/client`;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "tidings-pack-"));
    const file = execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", dir], { cwd: ROOT, encoding: "utf8" }).trim();
    writeFileSync(`${dir}/package.json`, '{"private":true}');
    run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--legacy-peer-deps", `./${file}`]);
    // The peer dependencies, as installed here.
    for (const name of readdirSync(`${ROOT}/node_modules`)) {
      const target = `${dir}/node_modules/${name}`;
      if (name.startsWith(".") || existsSync(target)) continue;
      symlinkSync(`${ROOT}/node_modules/${name}`, target);
    }
    server = await startServer();
  });
  after(async () => {
    await server?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it("has licences, a change log, source maps with their sources, and every file that `exports` names", () => {
    const manifest = JSON.parse(readFileSync(`${home()}/package.json`, "utf8"));
    for (const name of ["LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md", "README.md"]) assert.ok(existsSync(`${home()}/${name}`), name);
    for (const member of ["license", "repository", "homepage", "bugs", "keywords", "description"]) assert.ok(manifest[member], member);
    const files = JSON.stringify(manifest.exports).match(/\.\/[\w./-]+/g).concat(manifest.main, manifest.module, manifest.types);
    for (const name of files.filter((name) => /\.(js|ts|json)$/.test(name))) assert.ok(existsSync(`${home()}/${name}`), name);
    for (const name of ["dist/index.js", "dist/cjs/index.js"]) {
      const map = JSON.parse(readFileSync(`${home()}/${name}.map`, "utf8"));
      for (const source of map.sources) assert.ok(existsSync(join(home(), name, "..", source)), source);
    }
    // A registry's page has no neighbouring files, so links must be absolute.
    assert.doesNotMatch(readFileSync(`${home()}/README.md`, "utf8"), /\]\((?!https:|#|CHANGELOG)/);
  });

  it("exports the same names by import and require, and needs no page", () => {
    for (const entry of ENTRIES) {
      const name = `@tidings/client${entry}`;
      const required = run(process.execPath, ["-p", `Object.keys(require("${name}")).sort().join()`]).trim();
      const imported = run(process.execPath, ["--input-type=module", "-e", `console.log(Object.keys(await import("${name}")).sort().join())`]).trim();
      assert.equal(imported, required);
      assert.match(imported, /\w/);
    }
  });

  for (const [kind, settings] of [
    ["node16 as CommonJS", { module: "node16", moduleResolution: "node16" }],
    ["node16 as ES modules", { module: "node16", moduleResolution: "node16", type: "module" }],
    ["bundler", { module: "esnext", moduleResolution: "bundler" }],
  ]) {
    it(`is typed for ${kind}`, () => {
      const { type = "commonjs", ...options } = settings;
      const place = `${dir}/${kind.replaceAll(" ", "-")}`;
      mkdirSync(place);
      writeFileSync(`${place}/package.json`, JSON.stringify({ type }));
      const imports = ENTRIES.map((entry, n) => `import * as m${n} from "@tidings/client${entry}";\nvoid m${n};`).join("\n");
      writeFileSync(`${place}/use.ts`, `${imports}\nimport { connect } from "@tidings/client";\nconst n: number = connect("ws://x/ws").connection.delayMs ?? 0;\nvoid n;\n`);
      const compilerOptions = { ...options, strict: true, noEmit: true, skipLibCheck: false, target: "es2022", lib: ["es2022", "dom", "dom.iterable", "esnext.disposable"], types: ["node"] };
      writeFileSync(`${place}/tsconfig.json`, JSON.stringify({ compilerOptions, include: ["use.ts"] }));
      try {
        run(process.execPath, [`${ROOT}/node_modules/typescript/bin/tsc`, "-p", place]);
      } catch ({ stdout }) {
        assert.doesNotMatch(stdout, /use\.ts|@tidings/, stdout);
      }
    });
  }

  it("runs the examples of the page's client and of the back-end client", () => {
    const env = { TIDINGS_WS: `ws://${server.address}/ws`, TIDINGS_GRPC: `http://${server.internal}` };
    const example = `
      const { connect } = require("@tidings/client");
      const backend = require("@tidings/client/node").connect(process.env.TIDINGS_GRPC, { token: process.env.TOKEN });
      const client = connect(process.env.TIDINGS_WS, { token: process.env.TOKEN, transports: ["sse"] });
      client.subscribe("room:demo", {}, ({ data }) => {
        console.log(data.text);
        client.close();
        backend.close();
      }).ready.then(() => backend.publish("room:demo", "greeting", { text: "hello from a package" }));
    `;
    assert.equal(run(process.execPath, ["-e", example], { ...env, TOKEN: token({ roles: ["service"] }) }).trim(), "hello from a package");
  });

  it("can be required by Jest", () => {
    writeFileSync(`${dir}/a.test.js`, `test("works", () => { const { connect } = require("@tidings/client"); const c = connect("/ws"); expect(c.state).toBe("connecting"); c.close(); });`);
    run(process.execPath, [`${ROOT}/node_modules/jest/bin/jest.js`, "--rootDir", dir, "--testRegex", "a\\.test\\.js$"]);
  });
});
