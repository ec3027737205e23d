// Compiles src/ into artifacts/. With --check it writes nothing and fails when what is committed differs.
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, SETTINGS, compile, listSources, loadCompiler, sha256 } from "./compiler.mjs";

const ARTIFACTS = join(ROOT, "artifacts");

function sourcesHash(output) {
  const files = Object.keys(output.sources).sort();
  const lines = files.map((path) => {
    const onDisk = join(ROOT, path.startsWith("src/") ? "" : "node_modules", path);
    return `${path} ${sha256(readFileSync(onDisk))}`;
  });
  return sha256(lines.join("\n"));
}

// Interfaces, abstract contracts and inlined libraries have nothing to deploy or call.
function isDeployable({ abi, evm }) {
  return evm.bytecode.object !== "" && abi.some(({ type }) => type === "function");
}

function artifactsOf(solc) {
  const output = compile(solc, listSources());
  const hash = sourcesHash(output);
  const artifacts = new Map();
  for (const path of listSources()) {
    for (const [contractName, contract] of Object.entries(output.contracts[path] ?? {})) {
      if (!isDeployable(contract)) continue;
      const { abi, evm } = contract;
      if (artifacts.has(`${contractName}.json`)) throw new Error(`two contracts are named ${contractName}`);
      const artifact = {
        contractName,
        sourceName: path,
        abi,
        bytecode: `0x${evm.bytecode.object}`,
        deployedBytecode: `0x${evm.deployedBytecode.object}`,
        compiler: {
          version: solc.version(),
          evmVersion: SETTINGS.evmVersion,
          optimizer: SETTINGS.optimizer,
          viaIR: SETTINGS.viaIR ?? false,
        },
        sourcesHash: hash,
      };
      artifacts.set(`${contractName}.json`, `${JSON.stringify(artifact, null, 2)}\n`);
    }
  }
  return artifacts;
}

function committedNames() {
  try {
    return readdirSync(ARTIFACTS).filter((name) => name.endsWith(".json"));
  } catch {
    return [];
  }
}

function readCommitted(name) {
  try {
    return readFileSync(join(ARTIFACTS, name), "utf8");
  } catch {
    return null;
  }
}

function write(artifacts) {
  rmSync(ARTIFACTS, { recursive: true, force: true });
  mkdirSync(ARTIFACTS);
  for (const [name, text] of artifacts) writeFileSync(join(ARTIFACTS, name), text);
  console.log(`wrote ${artifacts.size} artifacts to artifacts/`);
}

function check(artifacts) {
  const names = new Set([...artifacts.keys(), ...committedNames()]);
  const different = [...names].filter((name) => readCommitted(name) !== artifacts.get(name));
  if (different.length === 0) {
    console.log(`${artifacts.size} artifacts are what the sources compile to`);
    return;
  }
  console.error(`artifacts differ from the sources: ${different.join(", ")}; run: npm run build`);
  process.exitCode = 1;
}

const artifacts = artifactsOf(loadCompiler());
if (process.argv.includes("--check")) check(artifacts);
else write(artifacts);
