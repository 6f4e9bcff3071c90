#!/usr/bin/env bash
# Prints the project's figures, with machine and date: what docs/benchmarks.md quotes. QUICK=1 is the
# short form; the argument `load` prints those under load instead. Peers are built in a workspace of their own (tests/bench), which takes long the first time.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
quick=()
[ "${QUICK:-0}" = 0 ] || quick=(--quick)

cd "$root"
product="${CARGO_TARGET_DIR:-$root/target}/release"
cargo build --release --locked -p windlass-cli -p windlass-node -p windlass-testnet --bins
cargo build --release --locked --manifest-path tests/bench/Cargo.toml --target-dir tests/bench/target
export WINDLASS_TESTNET="$product/windlass-testnet"

model=$(awk -F ': *' '/^model name/ { print $2; exit }' /proc/cpuinfo)
memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)
commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
echo
echo "$(date -u '+%Y-%m-%d %H:%M UTC'), commit $commit, $(nproc) cores of ${model:-an unnamed CPU}, $memory, Linux $(uname -r), $(rustc --version)"
echo
if [ "${1:-}" = load ]; then
  fixture=$(ls -d "${XDG_CACHE_HOME:-$HOME/.cache}"/windlass/fixtures-*/10000 | tail -1)
  for figure in burst bulk reservations crowd; do
    tests/bench/target/release/peers load "$figure" --fixture "$fixture"
    echo
  done
  tests/bench/target/release/peers run --warm ${quick[@]+"${quick[@]}"}
  exit
fi
tests/bench/target/release/peers run ${quick[@]+"${quick[@]}"}
echo
tests/bench/target/release/peers own ${quick[@]+"${quick[@]}"}
echo "| size of \`windlass\`, stripped | $(stat -c %s "$product/windlass" | awk '{ printf "%.1f MB", $1 / 1e6 }') |"
