// Compresses the built files for the server to embed, or with --verify checks that the committed ones
// hold the same content.
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { constants, gunzipSync, gzipSync } from "node:zlib";

const names = ["index.html", "app.js", "app.css"];
const verify = process.argv.includes("--verify");
const from = verify ? "build" : "dist";
const built = readdirSync(from).filter((name) => !name.endsWith(".gz")).sort();
if (built.join() !== [...names].sort().join()) {
  throw new Error(`expected ${names.join(", ")}, got ${built.join(", ")}`);
}
let bytes = 0;
for (const name of names) {
  const plain = readFileSync(`${from}/${name}`);
  const committed = `dist/${name}.gz`;
  if (verify) {
    if (!gunzipSync(readFileSync(committed)).equals(plain)) {
      throw new Error(`${committed} is not what the sources make: run npm run build`);
    }
  } else {
    writeFileSync(committed, gzipSync(plain, { level: constants.Z_BEST_COMPRESSION }));
    rmSync(`${from}/${name}`);
  }
  bytes += readFileSync(committed).length;
}
if (verify) rmSync(from, { recursive: true });
if (bytes > 150 * 1024) throw new Error(`${bytes} bytes are more than 150 KiB`);
console.log(`${bytes} bytes in all, compressed`);
