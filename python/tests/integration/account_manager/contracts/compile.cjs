// Compiles the Solidity file named first with the solc of contracts/, named second; prints name -> {abi, bytecode}.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const [source, contracts] = process.argv.slice(2);
const solc = createRequire(`${contracts}/`)("solc");
const input = {
  language: "Solidity",
  sources: { "wallets.sol": { content: readFileSync(source, "utf8") } },
  settings: { outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
const broken = (output.errors ?? []).filter(({ severity }) => severity === "error");
if (broken.length) throw new Error(broken.map(({ formattedMessage }) => formattedMessage).join("\n"));
const compiled = Object.entries(output.contracts["wallets.sol"]).map(([name, { abi, evm }]) => [
  name,
  { abi, bytecode: `0x${evm.bytecode.object}` },
]);
process.stdout.write(JSON.stringify(Object.fromEntries(compiled)));
