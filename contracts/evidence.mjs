// Checks that every test README.md names exists, and prints the gas snapshot beside its budgets and beside what others
// cost. Reads README.md, test/ and snapshots/, writes nothing.
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

// Gas of a whole transaction: [action, budget, what others cost].
const BUDGETS = [
  ["enrol", 62000], ["enrolBatch of 50, each", 36000], ["revoke", 36000], ["rotate", 70000], ["grant", 58000],
  ["commit", 47000], ["register", 90000, "ENS 232–296k, Diode's BNS 254k"], ["setTarget", 43000], ["setRecords, again", 44000],
  ["register node", 90000, "Diode's node registry 212k"],
  ["settle of 20 in steady state, each", 22000, "Diode's tickets ~39k each, every epoch"], ["redeem a voucher", 50000],
];
const gas = JSON.parse(read("snapshots", "gas.json"));
console.log(`${"gas".padEnd(36)} ${"measured".padStart(8)} ${"budget".padStart(8)}`);
for (const [action, budget, others = ""] of BUDGETS) {
  console.log(`${action.padEnd(36)} ${gas[action].padStart(8)} ${String(budget).padStart(8)}  ${others}`);
}
