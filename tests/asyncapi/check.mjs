// Holds the descriptions in AsyncAPI, read from the files that are named, to the official parser:
// no error and no warning.
import { readFile } from "node:fs/promises";
import { DiagnosticSeverity, Parser } from "@asyncapi/parser";

const parser = new Parser();
let failed = false;
for (const path of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(await readFile(path, "utf8"), { source: path });
  const found = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
  for (const { code, message, path: place } of found) console.error(`${path}: ${place.join("/")}: ${message} (${code})`);
  const messages = document?.allMessages().length ?? 0;
  console.log(`${path}: ${document?.allChannels().length ?? 0} channels, ${messages} messages`);
  failed ||= found.length > 0 || document === undefined;
}
process.exitCode = failed || process.argv.length < 3 ? 1 : 0;
