#!/usr/bin/env bash
# Makes this machine ready to build: installs what is missing, builds RocksDB's static library once,
# and writes .cargo/config.toml (untracked) so that plain `cargo` links it too.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

packages=()
command -v c++ >/dev/null || packages+=(g++)
command -v cc >/dev/null || packages+=(gcc)
command -v curl >/dev/null || packages+=(curl)
command -v mold >/dev/null || packages+=(mold)
compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-*.so*' >/dev/null || packages+=(libclang-dev)
if [ ${#packages[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing ${packages[*]}" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
  else
    echo "setup: missing ${packages[*]}; run: sudo apt-get install -y ${packages[*]}" >&2
    exit 2
  fi
fi
command -v cargo >/dev/null || { echo "setup: cargo is missing; install Rust 1.95 or newer with rustup" >&2; exit 2; }

library=$("$root/scripts/rocksdb.sh")
mkdir -p "$root/.cargo"
config="$root/.cargo/config.toml"
wanted=$(cat <<TOML
# Written by scripts/setup.sh for this machine; not tracked.
[env]
ROCKSDB_LIB_DIR = "$library"
ROCKSDB_STATIC = "1"

[target.x86_64-unknown-linux-gnu]
rustflags = ["-C", "link-arg=-fuse-ld=mold"]
TOML
)
# Written only when it differs: cargo rebuilds when its configuration changes.
[ -f "$config" ] && [ "$(cat "$config")" = "$wanted" ] || printf '%s\n' "$wanted" > "$config"
