// Runs what prove.sh has prepared, and prints each figure.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { ROOT } from "./compiler.mjs";

const { RUNS, DEPTH, SEED, STATIC } = process.env;
const BIN = join(ROOT, "node_modules", ".bin");
const WORST_GAS_RATIO = 1.25;
let missed = false;

function show(name, value, unit, target, ok, { baseline = null, baselineValue = null, ratio = null } = {}) {
  console.log(JSON.stringify({ name, value, unit, baseline, baseline_value: baselineValue, ratio, target, ok }));
  missed ||= !ok;
}

function progress(text) {
  process.stderr.write(`${text}\n`);
}

function run(command, args, env = {}) {
  const path = `${BIN}${delimiter}${process.env.PATH}`;
  const done = spawnSync(command, args, {
    cwd: ROOT,
    env: { ...process.env, PATH: path, ...env },
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (done.error) throw done.error;
  return done;
}

function testResults(args, env) {
  const done = run("forge", ["test", "--json", "--fuzz-seed", SEED, ...args], env);
  const line = done.stdout.split("\n").find((text) => text.startsWith("{"));
  if (!line) throw new Error(`forge gave no result: ${done.stderr || done.stdout}`);
  return Object.values(JSON.parse(line)).flatMap((suite) => Object.entries(suite.test_results));
}

function proveInvariants() {
  progress(`invariants: ${RUNS} runs of ${DEPTH} calls each, seed ${SEED}`);
  const env = { FOUNDRY_INVARIANT_RUNS: RUNS, FOUNDRY_INVARIANT_DEPTH: DEPTH };
  const results = testResults(["--match-contract", "InvariantsTest", "--match-test", "invariant_"], env);
  const wanted = Number(RUNS) * Number(DEPTH);
  for (const [signature, { status, reason, kind }] of results) {
    const held = status === "Success";
    const name = `vault_${signature.replace("()", "")}`;
    if (!held) progress(`${name}: ${reason}`);
    show(`${name}_broken`, held ? 0 : 1, "counterexamples", "== 0", held);
    show(`${name}_calls`, kind.Invariant.calls, "calls", `== ${wanted}`, kind.Invariant.calls === wanted);
  }
  if (results.length === 0) throw new Error("no invariant was run");
}

function proveSuite() {
  progress("unit and fuzz tests");
  const results = testResults(["--no-match-contract", "InvariantsTest"], {});
  const failed = results.filter(([, { status }]) => status !== "Success");
  for (const [signature, { reason }] of failed) progress(`${signature}: ${reason}`);
  show("vault_tests_passed", results.length - failed.length, "tests", `== ${results.length}`, failed.length === 0);
}

function gasLine(name, used, baseline, baselineValue, judged) {
  const ratio = Number((used / baselineValue).toFixed(3));
  const target = judged ? `<= ${WORST_GAS_RATIO} x baseline` : "shown for comparison";
  show(name, used, "gas", target, !judged || ratio <= WORST_GAS_RATIO, { baseline, baselineValue, ratio });
}

function proveGas() {
  const gas = JSON.parse(readFileSync(join(ROOT, "gas", "GasTest.json"), "utf8"));
  for (const swap of ["v3 one hop", "v3 two hops", "v2 one hop"]) {
    const used = Number(gas[`${swap}, through the vault`]);
    const name = `vault_gas_${swap.replaceAll(" ", "_")}`;
    gasLine(name, used, "exact approval and swap", Number(gas[`${swap}, straight, exact approval`]), true);
    const standing = Number(gas[`${swap}, straight, standing approval`]);
    gasLine(`${name}_standing`, used, "swap under a standing approval", standing, false);
  }
}

function proveStatically() {
  progress("slither");
  const slither = join(ROOT, ".forge", "slither", "bin", "slither");
  // Its own output folders: slither cleans them, and the tests need theirs.
  const env = { FOUNDRY_OUT: ".forge/slither-out", FOUNDRY_CACHE_PATH: ".forge/slither-cache" };
  const args = [".", "--foundry-out-directory", ".forge/slither-out", "--json", "-", "--fail-none"];
  const done = run(slither, args, env);
  const { success, error, results } = JSON.parse(done.stdout);
  if (!success) throw new Error(`slither failed: ${error}`);
  const findings = results.detectors ?? [];
  for (const { check, description } of findings) progress(`${check}: ${description}`);
  show("vault_static_findings_unexplained", findings.length, "findings", "== 0", findings.length === 0);
}

proveSuite();
proveGas();
if (STATIC === "1") proveStatically();
proveInvariants();
process.exitCode = missed ? 1 : 0;
