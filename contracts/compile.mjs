// Compiles the contracts with the pinned solc and writes artifacts/*.json; with --check it compares them byte for byte
// with the committed ones and writes nothing. Reads src/ and node_modules/, nothing else.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync, existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import sha3 from "js-sha3";
import solc from "solc";

const root = dirname(fileURLToPath(import.meta.url));
const CONTRACTS = readdirSync(join(root, "src")).filter((f) => f.endsWith(".sol")).map((f) => f.slice(0, -4)).sort();

// Shanghai: the newest EVM that every chain worth deploying to has (PUSH0); nothing here needs Cancun's opcodes.
// No metadata in the bytecode: it depends on the code alone, not on comments or paths.
const SETTINGS = {
  evmVersion: "shanghai",
  optimizer: { enabled: true, runs: 10000 },
  viaIR: true,
  metadata: { appendCBOR: false, bytecodeHash: "none" },
};
const OUTPUT = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences",
  "storageLayout"];

function sources(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sources(path) : path.endsWith(".sol") ? [path] : [];
  }).sort();
}

function compile(paths) {
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(paths.map((p) => [p, { content: readFileSync(join(root, p), "utf8") }])),
    settings: { ...SETTINGS, outputSelection: { "*": { "*": OUTPUT, "": ["ast"] } } },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const messages = output.errors ?? [];
  for (const message of messages) console.error(message.formattedMessage);
  if (messages.length > 0) throw new Error("the compiler isn't content; warnings count");
  return output;
}

// solc names immutables by AST id, which shifts with every edit; the artifact names them by identifier.
function immutableNames(output) {
  const names = new Map();
  const visit = (node) => {
    if (node === null || typeof node !== "object") return;
    if (node.nodeType === "VariableDeclaration" && node.mutability === "immutable") {
      names.set(String(node.id), { name: node.name, type: node.typeDescriptions.typeString });
    }
    Object.values(node).forEach(visit);
  };
  Object.values(output.sources).forEach((source) => visit(source.ast));
  return names;
}

function storageLayout(layout) {
  const typeOf = (id) => {
    const type = layout.types[id];
    if (type === undefined) return undefined;
    const members = type.members?.map(({ label, offset, slot, type: t }) =>
      ({ label, offset, slot: Number(slot), type: layout.types[t].label, bytes: Number(layout.types[t].numberOfBytes) }));
    return { label: type.label, members };
  };
  return layout.storage.map(({ label, slot, type }) => {
    const value = layout.types[type].value ?? type;
    return { label, slot: Number(slot), type: layout.types[type].label, key: typeOf(layout.types[type].key)?.label,
      value: typeOf(value) };
  });
}

// What the interfaces say is what people and followers rely on: nothing in them may lack its words.
function undocumented(output) {
  const KINDS = ["ContractDefinition", "FunctionDefinition", "EventDefinition", "ErrorDefinition", "StructDefinition"];
  return Object.entries(output.sources).filter(([path]) => path.startsWith("src/interfaces/")).flatMap(([path, { ast }]) =>
    ast.nodes.filter((node) => node.nodeType === "ContractDefinition").flatMap((node) => [node, ...node.nodes])
      .filter((node) => KINDS.includes(node.nodeType) && !node.documentation?.text?.trim())
      .map((node) => `${path}: ${node.name}`));
}

// The files the contract is made of: its own and what they import, transitively.
function closure(output, path, seen = new Set()) {
  if (seen.has(path)) return seen;
  seen.add(path);
  for (const node of output.sources[path].ast.nodes) {
    if (node.nodeType === "ImportDirective") closure(output, node.absolutePath, seen);
  }
  return seen;
}

function sha256(path) {
  return createHash("sha256").update(readFileSync(join(root, path))).digest("hex");
}

// What a chain calls the hash of code.
function keccak256(hex) {
  return `0x${sha3.keccak256(Buffer.from(hex, "hex"))}`;
}

function artifact(output, names, contract) {
  const path = `src/${contract}.sol`;
  const { abi, evm, storageLayout: layout } = output.contracts[path][contract];
  const immutables = Object.entries(evm.deployedBytecode.immutableReferences ?? {}).map(([id, places]) =>
    ({ ...names.get(id), offsets: places.map((place) => place.start) }));
  immutables.sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    contract,
    compiler: solc.version(),
    settings: SETTINGS,
    sources: Object.fromEntries([...closure(output, path)].sort().map((p) => [p, sha256(p)])),
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
    // Of what stands above: constructor arguments not appended, zeros where immutables go.
    bytecodeKeccak256: keccak256(evm.bytecode.object),
    deployedBytecodeKeccak256: keccak256(evm.deployedBytecode.object),
    immutables,
    storageLayout: storageLayout(layout),
  };
}

function main() {
  const check = process.argv.includes("--check");
  const output = compile(sources("src"));
  const silent = undocumented(output);
  if (silent.length > 0) throw new Error(`without NatSpec: ${silent.join(", ")}`);
  const names = immutableNames(output);
  mkdirSync(join(root, "artifacts"), { recursive: true });
  let stale = 0;
  for (const contract of CONTRACTS) {
    const made = artifact(output, names, contract);
    const file = join(root, "artifacts", `${contract}.json`);
    const text = `${JSON.stringify(made, null, 1)}\n`;
    const size = (made.deployedBytecode.length - 2) / 2;
    if (size > 24576) throw new Error(`${contract} is ${size} bytes: over the limit of EIP-170`);
    if (!check) writeFileSync(file, text);
    else if (!existsSync(file) || readFileSync(file, "utf8") !== text) stale += 1, console.error(`stale: ${relative(root, file)}`);
    console.log(`${contract}: ${size} bytes deployed`);
  }
  const strays = readdirSync(join(root, "artifacts")).filter((f) => !CONTRACTS.includes(f.slice(0, -5)));
  for (const stray of strays) console.error(`no source for artifacts/${stray}`);
  if (stale + strays.length > 0) {
    console.error("the committed artifacts aren't what the sources compile to: run `npm run compile` in contracts/");
    process.exit(1);
  }
}

main();
