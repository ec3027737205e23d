#!/usr/bin/env node
// The pinned npm compiler behind the command line of native solc, as far as forge and slither use it:
// `--version`, and `--standard-json` from standard input with every source given inline.
import { readFileSync } from "node:fs";
import { loadCompiler } from "./compiler.mjs";

const solc = loadCompiler();
if (process.argv.includes("--version")) {
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++"); // forge reads the native form only
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  console.error("solc.mjs understands --version and --standard-json only");
  process.exitCode = 1;
}
