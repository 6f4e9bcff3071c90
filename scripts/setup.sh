#!/usr/bin/env bash
# Makes this machine ready: installs what is missing, builds RocksDB's static library once, and
# writes .cargo/config.toml (untracked) so that plain `cargo` links it too.
#
# Usage: setup.sh [lint] [node] [python] [net]
#   lint   also rustfmt, clippy and cargo-deny, for `make check`
#   node   also Node.js and npm, for the checks that compare with other people's tools
#   python also Python with venv, pip and what it compiles against, for the same
#   net    also what makes network namespaces, gateways and packet filters, for the scenarios in them
# It installs packages only as root; anyone else is told the exact command.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
rust_needed="1.95"
deny_version="0.20.2"

lint=false
node=false
python=false
net=false
for want in "$@"; do
  case "$want" in
    lint) lint=true ;;
    node) node=true ;;
    python) python=true ;;
    net) net=true ;;
    *) echo "setup: unknown argument '$want'; known: lint, node, python, net" >&2; exit 2 ;;
  esac
done

packages=()
command -v c++ >/dev/null || packages+=(g++)
command -v cc >/dev/null || packages+=(gcc)
command -v curl >/dev/null || packages+=(curl)
command -v mold >/dev/null || packages+=(mold)
# Not libclang-cpp, which bindgen can't use.
compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null || packages+=(libclang-dev)
if $node; then
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
fi
if $python; then
  python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
  # What one of py-libp2p's packages is compiled against.
  python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || packages+=(python3-dev)
  compgen -G '/usr/include/gmp.h' >/dev/null || compgen -G '/usr/include/*/gmp.h' >/dev/null || packages+=(libgmp-dev)
fi
if $net; then
  PATH="$PATH:/usr/sbin:/sbin"
  command -v ip >/dev/null || packages+=(iproute2)
  command -v nft >/dev/null || packages+=(nftables)
  command -v unshare >/dev/null || packages+=(util-linux)
fi
if [ ${#packages[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing ${packages[*]}" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
  else
    echo "setup: missing ${packages[*]}; run: sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
    exit 2
  fi
fi

command -v cargo >/dev/null || { echo "setup: cargo is missing; install Rust $rust_needed or newer from https://rustup.rs" >&2; exit 2; }
rust_found=$(rustc --version | awk '{ print $2 }')
if [ "$(printf '%s\n%s\n' "$rust_needed" "$rust_found" | sort -V | head -1)" != "$rust_needed" ]; then
  echo "setup: Rust $rust_found is too old, $rust_needed or newer is needed; run: rustup update stable" >&2
  exit 2
fi

if $lint; then
  for component in fmt:rustfmt clippy:clippy; do
    cargo "${component%%:*}" --version >/dev/null 2>&1 && continue
    if command -v rustup >/dev/null; then
      rustup component add "${component##*:}" >&2
    else
      echo "setup: ${component##*:} is missing; install it beside rustc" >&2
      exit 2
    fi
  done
  if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
    echo "installing cargo-deny $deny_version into cargo's bin folder (some minutes, once)" >&2
    # Lightly optimised: it reads a few hundred manifests, and building it is the longer wait.
    # Built away from this folder, whose cargo configuration is not meant for it.
    (cd / && CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      CARGO_PROFILE_RELEASE_DEBUG=0 cargo install --quiet --locked cargo-deny --version "$deny_version") >&2
  fi
fi

library=$("$root/scripts/rocksdb.sh")
host=$(rustc -vV | awk '$1 == "host:" { print $2 }')
config="$root/.cargo/config.toml"
wanted=$(cat <<TOML
# Written by scripts/setup.sh for this machine; not tracked.
[env]
ROCKSDB_LIB_DIR = "$library"
ROCKSDB_STATIC = "1"

[target.$host]
rustflags = ["-C", "link-arg=-fuse-ld=mold"]
TOML
)
# Written only when it differs, and whole or not at all: another build may be reading it.
if [ ! -f "$config" ] || [ "$(cat "$config")" != "$wanted" ]; then
  mkdir -p "$root/.cargo"
  printf '%s\n' "$wanted" > "$config.$$"
  mv "$config.$$" "$config"
fi
