#!/usr/bin/env bash
# Links protocol/no-std-check, a program without the standard library, for this host and runs it.
# A dependency that brought `std` along would define a second panic handler and fail to build.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# The same versions as the product's: its lock file, pruned by cargo to what this program needs.
cp "$root/Cargo.lock" "$root/protocol/no-std-check/Cargo.lock"
target="${CARGO_TARGET_DIR:-$root/target}/no-std"
cargo build --quiet --manifest-path "$root/protocol/no-std-check/Cargo.toml" --target-dir "$target"
status=0
"$target/debug/windlass-no-std-check" || status=$?
if [ "$status" != 0 ]; then
  echo "no_std: the program linked but its check number $status failed (protocol/no-std-check/src/main.rs)" >&2
  exit 1
fi
echo "no_std: protocol links and verifies without the standard library"
