#!/usr/bin/env bash
# Prints the project's figures, with machine and date: what docs/benchmarks.md quotes. QUICK=1 is the
# short form. Peers are built in a workspace of their own (tests/bench), which takes long the first time.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
quick=()
[ "${QUICK:-0}" = 0 ] || quick=(--quick)

cargo build --release --locked --manifest-path "$root/tests/bench/Cargo.toml" --target-dir "$root/tests/bench/target"

model=$(awk -F ': *' '/^model name/ { print $2; exit }' /proc/cpuinfo)
memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)
commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
echo
echo "$(date -u '+%Y-%m-%d %H:%M UTC'), commit $commit, $(nproc) cores of ${model:-an unnamed CPU}, $memory, Linux $(uname -r), $(rustc --version)"
echo
"$root/tests/bench/target/release/peers" run ${quick[@]+"${quick[@]}"}
