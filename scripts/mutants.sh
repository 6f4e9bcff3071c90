#!/usr/bin/env bash
# Changes each function that verifies, one operator, guard or result at a time, and runs the protocol's tests: a change
# that no test notices fails. Needs cargo-mutants and installs it if it is missing; takes about an hour on two cores.
#
# Left out: changes that can't be noticed, each with its reason in .cargo/mutants.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo mutants --version >/dev/null 2>&1 || cargo install --locked cargo-mutants
output="$(mktemp -d)"
trap 'rm -rf "$output"' EXIT
cargo mutants --package windlass-protocol --re 'verify|authorise|succeeds' --no-shuffle --timeout 120 \
  --output "$output" --config scripts/mutants.toml -- --lib --tests
