// Builds the npm packages that carry the server: node build.mjs BINARY CPU OUT
//
// CPU is x64 or arm64. Packs `tidings`, which runs the program, and `@tidings/server-linux-CPU`, which holds it: npm
// installs only the package of the machine's own platform.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [binary, cpu, out] = process.argv.slice(2);
if (!["x64", "arm64"].includes(cpu) || !out) {
  console.error("usage: node build.mjs BINARY x64|arm64 OUT");
  process.exit(2);
}
const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const version = execFileSync(resolve(binary), ["--version"], { encoding: "utf8" }).trim().split(" ")[1];
const stage = mkdtempSync(join(tmpdir(), "tidings-npm-"));
const pack = (folder) => {
  for (const licence of ["LICENSE-MIT", "LICENSE-APACHE"]) copyFileSync(join(root, licence), join(folder, licence));
  mkdirSync(out, { recursive: true });
  const packed = execFileSync("npm", ["pack", "--json", "--pack-destination", resolve(out), folder], { encoding: "utf8" });
  console.log(join(out, JSON.parse(packed)[0].filename));
};

try {
  const runner = join(stage, "tidings");
  cpSync(join(here, "tidings"), runner, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(runner, "package.json"), "utf8"));
  const { description, license, repository, engines } = manifest;
  manifest.version = version;
  for (const name of Object.keys(manifest.optionalDependencies)) manifest.optionalDependencies[name] = version;
  writeFileSync(join(runner, "package.json"), JSON.stringify(manifest, null, 2) + "\n");
  pack(runner);

  const platform = join(stage, "platform");
  mkdirSync(join(platform, "bin"), { recursive: true });
  copyFileSync(binary, join(platform, "bin", "tidings"));
  chmodSync(join(platform, "bin", "tidings"), 0o755);
  const name = `@tidings/server-linux-${cpu}`;
  writeFileSync(join(platform, "README.md"), `# ${name}\n\nThe program of the package \`tidings\` for Linux on ${cpu}.\n`);
  writeFileSync(
    join(platform, "package.json"),
    JSON.stringify(
      { name, version, description, license, repository, engines, os: ["linux"], cpu: [cpu], files: ["bin", "LICENSE-*"] },
      null,
      2,
    ) + "\n",
  );
  pack(platform);
} finally {
  rmSync(stage, { recursive: true });
}
