#!/usr/bin/env node
// Runs the program of this platform's package. Signals go to it, and its exit code is this one's.
"use strict";

const { spawn } = require("node:child_process");

const name = `@tidings/server-${process.platform}-${process.arch}`;
let program = process.env.TIDINGS_BIN;
if (!program) {
  try {
    program = require.resolve(`${name}/bin/tidings`);
  } catch {
    console.error(
      `tidings: no program for ${process.platform} on ${process.arch}: the optional dependency ${name} is not installed.\n` +
        "Install with optional dependencies, or set TIDINGS_BIN to a program that you have built.",
    );
    process.exit(1);
  }
}

const child = spawn(program, process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}
child.on("error", (error) => {
  console.error(`tidings: ${program}: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
