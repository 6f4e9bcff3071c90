// Checks that every test README.md names exists, prints the gas snapshot beside its budgets and beside what others cost,
// and checks that README.md's table says the same. Reads README.md, test/ and snapshots/, writes nothing.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const read = (...path) => readFileSync(join(root, ...path), "utf8");

const tests = readdirSync(join(root, "test")).map((file) => read("test", file)).join("\n");
const exists = (name) => new RegExp(`function ${name}\\b`).test(tests);
const named = [...new Set(read("README.md").match(/\b(test|testFuzz|invariant)_\w+/g))];
const missing = named.filter((name) => !exists(name));
for (const name of missing) console.error(`README.md names a test that doesn't exist: ${name}`);
if (missing.length > 0) process.exit(1);
console.log(`README.md: ${named.length} tests named, all there`);

// Gas of a whole transaction: [action, budget, its signed variant, what others cost]. ERC-1056 is measured here, ENS and
// Diode aren't.
const ours = JSON.parse(read("snapshots", "gas.json"));
const theirs = JSON.parse(read("snapshots", "erc1056.json"));
const grouped = (gas) => Number(gas).toLocaleString("en-US");
const erc1056 = (call) => `ERC-1056 ${call} ${grouped(theirs[`${call}, first`])}, again ${grouped(theirs[`${call}, again`])}`;
const BUDGETS = [
  ["enrol", 62000, "enrolBySig"], ["enrolBatch of 50, each", 36000], ["revoke", 36000, "revokeBySig"],
  ["revoke, by its own key", 36000, "revokeOwnBySig"], ["rotate", 70000, "rotateBySig", erc1056("changeOwner")],
  ["grant", 58000, "grantBySig", erc1056("addDelegate")], ["commit", 47000],
  ["register", 90000, "", "ENS 232–296k, Diode's BNS 254k"], ["setTarget", 43000, "setTargetBySig"],
  ["setRecords, again", 44000, "setRecordsBySig, again", erc1056("setAttribute")],
  ["register node", 90000, "", "Diode's node registry 212k"],
  ["settle of 20 in steady state, each", 22000, "", "Diode's tickets ~39k each, every epoch"], ["redeem a voucher", 50000],
];
const rows = BUDGETS.map(([action, budget, signed = "", others = ""]) =>
  [action, grouped(ours[action]), grouped(budget), signed === "" ? "" : grouped(ours[signed]), others]);
console.log(`${"gas".padEnd(36)} ${"measured".padStart(8)} ${"budget".padStart(8)} ${"signed".padStart(8)}`);
for (const [action, measured, budget, signed, others] of rows) {
  console.log(`${action.padEnd(36)} ${measured.padStart(8)} ${budget.padStart(8)} ${signed.padStart(8)}  ${others}`);
}
const table = rows.map((row) => `| ${row.join(" | ")} |`.replaceAll("|  ", "| "));
const absent = table.filter((row) => !read("README.md").split("\n").includes(row));
if (absent.length > 0) console.error(`README.md's table of gas isn't what is measured; these rows are:\n${absent.join("\n")}`);
if (absent.length > 0) process.exit(1);
