// The one definition of how the contracts are compiled: sources, settings, and the pinned compiler.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);

export const ROOT = dirname(fileURLToPath(import.meta.url));
export const SOLC_VERSION = "0.8.37";
// Of node_modules/solc/soljson.js: what npm unpacked is what this file names, whatever the registry served.
export const SOLJSON_SHA256 = "221d7a667378b5068d913e75fe092507e061363cd1d23b64c49ae82febabad4c";

export const SETTINGS = {
  optimizer: { enabled: true, runs: 10_000 },
  evmVersion: "cancun", // EIP-1153: the reentrancy guard lives in transient storage
  metadata: { bytecodeHash: "ipfs" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

// Transient storage "can break composability" unless cleared at the end of the call, as the reentrancy guard does.
const EXPLAINED_WARNINGS = new Set(["2394"]);

export function sha256(text) {
  return createHash("sha256").update(text).digest("hex");
}

export function loadCompiler() {
  const path = require.resolve("solc/soljson.js");
  const found = sha256(readFileSync(path));
  if (found !== SOLJSON_SHA256) {
    throw new Error(`soljson.js has sha256 ${found}, expected ${SOLJSON_SHA256} (solc ${SOLC_VERSION})`);
  }
  return require("solc");
}

export function listSources(directory = join(ROOT, "src")) {
  return readdirSync(directory, { recursive: true })
    .filter((name) => name.endsWith(".sol"))
    .map((name) => relative(ROOT, join(directory, name)).replaceAll("\\", "/"))
    .sort();
}

function findImport(path) {
  try {
    return { contents: readFileSync(join(ROOT, "node_modules", path), "utf8") };
  } catch (error) {
    return { error: `${path}: ${error.message}` };
  }
}

export function compile(solc, sourcePaths) {
  const sources = Object.fromEntries(
    sourcePaths.map((path) => [path, { content: readFileSync(join(ROOT, path), "utf8") }]),
  );
  const input = { language: "Solidity", sources, settings: SETTINGS };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
  const problems = (output.errors ?? []).filter(({ errorCode }) => !EXPLAINED_WARNINGS.has(errorCode));
  if (problems.length > 0) throw new Error(problems.map((problem) => problem.formattedMessage).join("\n"));
  return output;
}
