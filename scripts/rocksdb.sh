#!/usr/bin/env bash
# Builds RocksDB's static library once per machine and prints the folder that holds it.
#
# Compiling RocksDB takes many minutes, and cargo would do it again in every target folder and
# profile. The library is built once, at release optimisation, kept under the user's cache folder
# (keyed by crate version, features and compiler), and linked from there by every build.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
features="lz4"
lock_version() { awk -v name="$1" '$0 == "name = \"" name "\"" { getline; gsub(/[",]/, ""); print $3; exit }' "$root/Cargo.lock"; }
version=$(lock_version librocksdb-sys)
lz4=$(lock_version lz4-sys)
[ -n "$version" ] && [ -n "$lz4" ] || { echo "rocksdb.sh: Cargo.lock names no librocksdb-sys and lz4-sys" >&2; exit 2; }
compiler=$(c++ --version | head -1)
key=$(printf '%s|%s|%s|%s|%s' "$version" "$lz4" "$features" "$compiler" "$(uname -m)" | sha256sum | cut -c1-16)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/windlass"
library="$cache/rocksdb-$key"

if [ ! -f "$library/librocksdb.a" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/rocksdb.lock"
  flock 9 # a second build on this machine waits here and then finds the library
  if [ ! -f "$library/librocksdb.a" ]; then
    echo "building RocksDB once for this machine (about 13 minutes on two cores)" >&2
    # The lock is ours, so whatever an earlier, interrupted build left behind is nobody's.
    rm -rf "$cache"/build.*
    build=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    mkdir -p "$build/src" "$build/out"
    : > "$build/src/lib.rs"
    cat > "$build/Cargo.toml" <<TOML
[package]
name = "rocksdb-static"
version = "0.0.0"
edition = "2021"
[workspace]
[dependencies]
librocksdb-sys = { version = "=$version", default-features = false, features = ["$features", "bindgen-runtime"] }
lz4-sys = "=$lz4"
TOML
    # Run from the build folder: in ours, cargo would read the configuration that says to link the
    # very library being built.
    (cd "$build" && env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC cargo build --release --quiet --target-dir "$build/target") >&2
    find "$build/target" -name librocksdb.a -exec cp {} "$build/out/" \;
    [ -f "$build/out/librocksdb.a" ] || { echo "rocksdb.sh: cargo built no librocksdb.a" >&2; exit 2; }
    rm -rf "$library"
    mv "$build/out" "$library"
  fi
fi
echo "$library"
