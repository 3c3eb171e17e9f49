// The output of `tidings catalog typescript` is valid TypeScript for every catalog, and fits this client.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { BIN, plainEnvironment } from "./support/server.mjs";

const PRESETS = ["football", "devplatform", "spc", "photo", "robotics"];
const WORK = fileURLToPath(new URL(".catalog", import.meta.url));
const OPTIONS = {
  strict: true,
  noEmit: true,
  skipLibCheck: false,
  types: [],
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
};

/** The compiler's errors in these files. */
function complaints(...names) {
  const program = ts.createProgram(names.map((name) => `${WORK}/${name}`), OPTIONS);
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const text = ts.flattenDiagnosticMessageText(messageText, " ");
    const line = file?.text.slice(0, start).split("\n").length;
    return `${file?.fileName.slice(WORK.length + 1)}:${line}: ${text}\n${file?.text.split("\n")[line - 1]}`;
  });
}

function generate(name, ...args) {
  const options = { encoding: "utf8", maxBuffer: 1 << 26, env: plainEnvironment() };
  const module = execFileSync(BIN, ["catalog", "typescript", ...args], options);
  writeFileSync(`${WORK}/${name}.ts`, module);
  return module;
}

/** Pseudo-random numbers, the same in every run. */
function dice(seed) {
  return (sides) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * sides);
  };
}

const NAMES = ["a", "new", "get", "readonly", "constructor", "__proto__", "1", "a b", 'q"', "*/", "\u2028", "class", "ß", "-", "", "$", "type", "Events"];
const REFERENCES = ["#", "#/$defs/a", "#/$defs/b", "#/$defs/*~1", "#/$defs/a/properties/x", "#/%24defs/b", "#anchor", "https://json-schema.org/draft/2020-12/schema"];
const VALUES = [null, true, -1.5, 1e30, 0, "", "*/", 'a"\n`${b}\\', [], [1, ["x"]], {}, { new: { "1": null } }];

/** A random valid schema. */
function schema(roll, depth) {
  const pick = (list) => list[roll(list.length)];
  const inner = () => schema(roll, depth - 1);
  const several = (most) => Array.from({ length: 1 + roll(most) }, inner);
  if (depth === 0) return pick([{}, true, false, { type: "string" }, { $ref: pick(REFERENCES) }]);
  const keywords = {
    type: () => pick(["object", "array", "string", "integer", "null", ["object", "null"], ["array", "string", "number"]]),
    properties: () => Object.fromEntries(several(4).map((part) => [`${pick(NAMES)}`, part])),
    required: () => [...new Set([pick(NAMES), pick(NAMES)])],
    additionalProperties: inner,
    patternProperties: () => ({ "^x": inner() }),
    items: inner,
    prefixItems: () => several(3),
    minItems: () => roll(3),
    enum: () => [pick(VALUES)],
    const: () => pick(VALUES),
    anyOf: () => several(3),
    oneOf: () => several(3),
    allOf: () => several(2),
    not: inner,
    $ref: () => pick(REFERENCES),
    description: () => pick(["A word.", "*/ alert(1) /*", "two\nlines", "  ", "\u2028"]),
    title: () => pick(NAMES),
  };
  const chosen = Object.keys(keywords).filter(() => roll(5) === 0);
  return Object.fromEntries(chosen.map((name) => [name, keywords[name]()]));
}

/** A schema with all the definitions that it references. */
function whole(roll) {
  const a = { properties: { x: schema(roll, 1) }, allOf: [schema(roll, 2)] };
  const $defs = { a, b: { ...schema(roll, 2), $anchor: "anchor" }, "*/": schema(roll, 1) };
  return { ...schema(roll, 3), $defs };
}

describe("the types of a catalog", () => {
  before(() => mkdirSync(WORK, { recursive: true }));
  after(() => rmSync(WORK, { recursive: true, force: true }));

  it("compile for every preset", () => {
    for (const preset of PRESETS) assert.match(generate(preset, "--preset", preset), /export interface Events \{/);
    assert.deepEqual(complaints(...PRESETS.map((name) => `${name}.ts`)), []);
  });

  it("are usable as the client's event types", () => {
    generate("football", "--preset", "football");
    const use = `
      import { connect } from "../../dist/index.js";
      import type { Events, ProcessingProgress } from "./football.js";
      const client = connect<Events>("ws://localhost/ws");
      client.subscribe("global", { eventTypes: ["processing_progress"] }, (event) => {
        const progress: ProcessingProgress = event.data;
        progress.progress.toFixed(progress.stage.length);
        // @ts-expect-error: there is no such member
        event.data.percent;
      });
      client.subscribe("global", (event) => {
        if (event.type === "system_alert") event.data.level satisfies "info" | "warning" | "critical" | undefined;
      });
      void client.publish("global", "job_queued", { job_id: "1" });
      // @ts-expect-error: a member is missing
      void client.publish("global", "job_queued", { priority: 1 });
      // @ts-expect-error: there is no such event
      void client.publish("global", "job_lost", {});
    `;
    writeFileSync(`${WORK}/use.ts`, use);
    assert.deepEqual(complaints("use.ts"), []);
  });

  it("compile for any schema", () => {
    const roll = dice(20261121);
    const types = Array.from({ length: 400 }, (_, n) => {
      const name = ["events", "a.b", "a_b", "a-b", "string", "class", "never"][n] ?? `t${n}`;
      return `[[event_type]]\nname = "${name}"\nschema = ${JSON.stringify(JSON.stringify(whole(roll)))}\n`;
    });
    // Characters that TOML and JSON escape differently.
    writeFileSync(`${WORK}/any.toml`, types.join("").replaceAll("\u2028", "\\u2028"));
    const module = generate("any", "--config", `${WORK}/any.toml`);
    const [events] = module.split("\n}\n");
    assert.equal(events.match(/^ {2}"[\w.-]+": /gm).length, 400);
    assert.deepEqual(complaints("any.ts"), []);
  });
});
