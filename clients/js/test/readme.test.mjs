// The README's examples: those for Node are executed, the others compiled.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { build } from "esbuild";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startServer } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const ADDRESS = "ws://127.0.0.1:8000/ws";

const blocks = [...readFileSync(`${ROOT}/README.md`, "utf8").matchAll(/^```(\w+)\n(.*?)^```/gms)].map(([, kind, code]) => ({ kind, code }));
const forNode = blocks.filter(({ kind, code }) => kind === "js" && code.includes(ADDRESS));

describe("the README", () => {
  let server;
  before(async () => (server = await startServer({ dev: true })));
  after(() => server.close());

  it("has examples to run", () => assert.equal(forNode.length, 2));

  for (const [place, { code }] of forNode.entries()) {
    it(`example ${place + 1} prints the published events`, async () => {
      const child = spawn(process.execPath, ["--input-type=module", "-e", code.replaceAll(ADDRESS, server.url)], { cwd: ROOT });
      let out = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (out += text));
      try {
        await until(() => out.includes("greeting { text: 'hello' }") || child.exitCode !== null, "the event");
        // The one with a loop ends by itself.
        if (code.includes("client.close()")) await until(() => child.exitCode !== null, "its end");
        assert.match(out, /^greeting \{ text: 'hello' \}$/m);
        assert.ok(!child.exitCode, out);
      } finally {
        child.kill();
      }
    });
  }

  it("imports only names that exist", async () => {
    const others = blocks.filter(({ kind }) => ["js", "jsx"].includes(kind));
    assert.ok(others.length >= 6);
    for (const { code } of others) {
      const stdin = { contents: code, loader: "jsx", resolveDir: ROOT };
      await build({ stdin, bundle: true, write: false, format: "esm", jsx: "automatic", logLevel: "silent", external: ["react", "vue", "ws", "@grpc/*", "node:*"] });
    }
  });

  it("compiles", async () => {
    const [{ code }, ...more] = blocks.filter(({ kind }) => kind === "ts");
    assert.deepEqual(more, []);
    const dir = `${ROOT}/test/.readme`;
    mkdirSync(dir, { recursive: true });
    try {
      writeFileSync(`${dir}/example.ts`, code);
      writeFileSync(`${dir}/tsconfig.json`, JSON.stringify({ extends: "../tsconfig.json", compilerOptions: { rootDir: "../.." }, include: ["example.ts"] }));
      await promisify(execFile)(process.execPath, [`${ROOT}/node_modules/typescript/bin/tsc`, "-p", dir]).catch(({ stdout }) => assert.fail(stdout));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
