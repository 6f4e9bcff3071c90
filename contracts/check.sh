#!/usr/bin/env bash
# Recompiles the contracts with the pinned solc, compares the artifacts byte for byte with the committed ones, runs forge's
# tests on exactly those, and plays the same scenarios on a second EVM (second_evm/check.sh). Needs npm; without it, it says so and passes, except in CI, where nothing may be
# skipped unseen. Writes only contracts/{node_modules,out,cache}, the user's cache of Python packages and, with --update,
# the gas snapshot. With --soak it fuzzes for long and shows that no rule can be deleted unnoticed; that takes an hour.
set -euo pipefail
cd "$(dirname "$0")"

skip() {
  echo "contracts: skipped, $1"
  if [ "${CI:-}" = true ]; then exit 1; else exit 0; fi
}

command -v npm >/dev/null && command -v node >/dev/null || skip "npm isn't installed (Node 20 or later has it)"

# A stamp instead of npm's own check: `npm ci` empties node_modules every time.
stamp=node_modules/.installed-for
if ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
  npm ci --silent --no-audit --no-fund --ignore-scripts || skip "npm can't install the pinned solc and forge"
  cp package-lock.json "$stamp"
fi

node compile.mjs --check

# The binary itself: the package's start script wants its install script to have run.
platform="$(node -p '`${process.platform}-${process.arch === "x64" ? "amd64" : process.arch}`')"
forge="node_modules/@foundry-rs/forge-$platform/bin/forge"
[ -x "$forge" ] || skip "there is no forge for $platform"
# -vv: the random histories print how often each of their actions succeeded.
case "${1:-}" in
  --update)
    rm -f snapshots/*.json
    "$forge" test -vv
    ;;
  --soak)
    # Other seeds and many more of them, then every rule deleted in turn.
    seed="0x$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')"
    echo "contracts: fuzz seed $seed"
    FOUNDRY_FUZZ_RUNS=20000 FOUNDRY_INVARIANT_RUNS=128 "$forge" test -vv --fuzz-seed "$seed"
    node mutants.mjs
    ;;
  *) FORGE_SNAPSHOT_CHECK=true "$forge" test -vv ;;
esac

node evidence.mjs
second_evm/check.sh
