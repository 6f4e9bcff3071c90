// Deletes every rule of the contracts in turn (each `revert`, each refusal, each call of a `_require…`), compiles, and runs
// the tests on the result: a rule that can go without a test failing is a survivor, and the command fails naming it. Takes a
// few seconds per rule; `node mutants.mjs Settlement` tries the files whose path has that word. Works in .mutants/ only.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync, cpSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const root = dirname(fileURLToPath(import.meta.url));
const work = join(root, ".mutants");
const platform = `${process.platform}-${process.arch === "x64" ? "amd64" : process.arch}`;
const forge = join(root, "node_modules", "@foundry-rs", `forge-${platform}`, "bin", "forge");
const CONTRACTS = ["NameRegistrar", "NodeStaking", "Registry", "Settlement"];
const RULE = /^\s*(if \(.*\) (revert \w+\(.*\)|return \w+\.selector|return \(\w+\.selector, \w+\))|_require\w+\(.*\)|_byOperator\(.*\)|_byOwner\(.*\));$/;

function sources(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sources(path) : path.endsWith(".sol") ? [path] : [];
  });
}

function prepare() {
  rmSync(work, { recursive: true, force: true });
  mkdirSync(join(work, "artifacts"), { recursive: true });
  for (const name of ["src", "test", "vectors", "node_modules", "solc", "package.json"]) symlinkSync(join(root, name), join(work, name));
  cpSync(join(root, "foundry.toml"), join(work, "foundry.toml"));
}

// Which contracts a source ends up in: what `import`s reach it.
function madeOf(contents, contract) {
  const seen = new Set();
  const visit = (path) => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const [, target] of contents[path].matchAll(/from "(\.[^"]+)"/g)) visit(join(dirname(path), target));
  };
  visit(`src/${contract}.sol`);
  return seen;
}

// Without the IR pipeline, where the stack is deep enough: the rules are the same and it is much faster.
function compileOne(contents, contract) {
  const input = {
    language: "Solidity",
    sources: Object.fromEntries([...madeOf(contents, contract)].map((path) => [path, { content: contents[path] }])),
    settings: {
      evmVersion: "shanghai",
      optimizer: { enabled: true, runs: 1 },
      viaIR: contract === "Settlement",
      metadata: { appendCBOR: false, bytecodeHash: "none" },
      outputSelection: { [`src/${contract}.sol`]: { [contract]: ["evm.bytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter((e) => e.severity === "error");
  if (errors.length > 0) return errors[0].formattedMessage;
  const bytecode = `0x${output.contracts[`src/${contract}.sol`][contract].evm.bytecode.object}`;
  writeFileSync(join(work, "artifacts", `${contract}.json`), JSON.stringify({ bytecode }));
  return undefined;
}

function compile(contents, affected) {
  for (const contract of affected) {
    const refusal = compileOne(contents, contract);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

const test = (...which) => spawnSync(forge, ["test", "--fail-fast", ...which], { cwd: work, encoding: "utf8" });
const passes = (...which) => test(...which).status === 0;

function main() {
  prepare();
  const paths = sources("src");
  const contents = Object.fromEntries(paths.map((p) => [p, readFileSync(join(root, p), "utf8")]));
  const broken = compile(contents, CONTRACTS);
  if (broken !== undefined) throw new Error(broken);
  if (!passes("--no-match-contract", "Gas|History")) throw new Error("the tests fail without any change");
  const survivors = [];
  let tried = 0;
  for (const path of paths.filter((p) => process.argv[2] === undefined || p.includes(process.argv[2]))) {
    const lines = contents[path].split("\n");
    const affected = CONTRACTS.filter((c) => madeOf(contents, c).has(path));
    for (const [i, line] of lines.entries()) {
      if (!RULE.test(line)) continue;
      tried += 1;
      const mutant = lines.with(i, "").join("\n");
      const refusal = compile({ ...contents, [path]: mutant }, affected);
      const what = `${path}:${i + 1}: ${line.trim()}`;
      if (refusal !== undefined) console.log(`caught by the compiler  ${what}`);
      else if (!passes("--no-match-contract", "Gas|History") || !passes("--match-contract", "History")) console.log(`caught  ${what}`);
      else survivors.push(what), console.log(`SURVIVES  ${what}`);
    }
    compile(contents, affected);
  }
  rmSync(work, { recursive: true, force: true });
  console.log(`${tried} rules deleted in turn, ${survivors.length} survivors`);
  process.exit(survivors.length > 0 || tried === 0 ? 1 : 0);
}

main();
