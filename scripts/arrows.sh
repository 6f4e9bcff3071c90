#!/usr/bin/env bash
# Checks the architecture's arrows: dependency edges that may not exist.
#
# What each package is built from (normal and build dependencies, all of its features, this host's
# target) is asked of cargo. Development dependencies are free: a test may use anything.
set -euo pipefail
cd "$(dirname "$0")/.."

io="tokio mio socket2 async-io polling getrandom libp2p rocksdb"
providers="alloy alloy-provider alloy-transport alloy-transport-http reqwest jsonrpsee"
shells="clap axum tracing-subscriber"
above_contracts="windlass-node windlass-client windlass-cli windlass-testnet windlass-tests"
# Key files are for whoever has a disk to keep one on.
keyfile="windlass-keyfile"

failures=0
checked=0

tree() { cargo tree --locked --package "$1" --all-features --edges normal,build "${@:2}"; }
# reached PACKAGE [cargo tree arguments]: every package it is built from, one per line.
reached() { tree "$1" --prefix none --format '{p}' "${@:2}" | awk '{ print $1 }' | sort -u; }

# refuse PACKAGE REACHED CRATE…: none of the crates is in the list REACHED.
refuse() {
  local package=$1 built=$2 crate absent=()
  shift 2
  for crate in "$@"; do
    checked=$((checked + 1))
    if grep -qx -- "$crate" <<<"$built"; then
      failures=$((failures + 1))
      echo "  $package --> $crate  FORBIDDEN, by this path:"
      tree "$package" --invert "$crate" | head -20 | sed 's/^/      /'
    else
      absent+=("$crate")
    fi
  done
  echo "  $package -/-> ${absent[*]}" | fold -s -w 110
}
# The list is assigned before it is used, so that a failing cargo ends the check instead of passing it.
forbid() {
  local built
  built=$(reached "$1")
  refuse "$1" "$built" "${@:2}"
}
# Only as the package's own choice: crates that a build-time dependency may use for itself.
forbid_direct() {
  local built
  built=$(reached "$1" --depth 1)
  refuse "$1" "$built" "${@:2}"
}

# A check that can't see an edge which is there would pass for ever.
reached windlass-client | grep -qx windlass-protocol || { echo "arrows: cargo tree no longer shows client --> protocol" >&2; exit 2; }

forbid windlass-protocol $io $providers $shells rand futures libp2p-identity windlass-p2p windlass-contracts $keyfile $above_contracts
forbid windlass-contracts $io $providers $shells windlass-protocol windlass-p2p $keyfile $above_contracts
forbid windlass-keyfile tokio libp2p rocksdb $providers $shells windlass-p2p windlass-contracts $above_contracts
forbid windlass-p2p $providers $shells rocksdb revm windlass-contracts $keyfile $above_contracts
forbid windlass-rpc libp2p rocksdb revm jsonrpsee $shells windlass-protocol windlass-p2p windlass-contracts $keyfile $above_contracts
forbid windlass-client $providers $shells rocksdb revm windlass-contracts $keyfile windlass-node windlass-cli windlass-testnet windlass-tests
forbid windlass-cli rocksdb revm axum jsonrpsee windlass-node windlass-testnet windlass-tests
forbid windlass-node revm jsonrpsee windlass-client windlass-cli windlass-testnet windlass-tests
forbid windlass-testnet windlass-tests
# The smallest device: TCP and Noise, no TLS, one crypto library.
embedded=$(cargo tree --locked --package windlass-client --no-default-features --edges normal,build --prefix none --format '{p}' | awk '{ print $1 }' | sort -u)
grep -qx libp2p-noise <<<"$embedded" || { echo "arrows: cargo tree no longer shows what the embedded profile is made of" >&2; exit 2; }
for crate in quinn quinn-proto rustls aws-lc-rs aws-lc-sys libp2p-quic libp2p-tls libp2p-dcutr libp2p-kad libp2p-autonat libp2p-upnp hyper $providers; do
  checked=$((checked + 1))
  if grep -qx -- "$crate" <<<"$embedded"; then
    failures=$((failures + 1))
    echo "  windlass-client without features --> $crate  FORBIDDEN"
  fi
done
# Libraries have typed errors: `anyhow` is for binaries.
for library in windlass-protocol windlass-contracts windlass-keyfile windlass-p2p windlass-rpc windlass-client; do forbid_direct "$library" anyhow; done

[ "$failures" = 0 ] || { echo "arrows: $failures of $checked forbidden edges exist" >&2; exit 1; }
echo "arrows: $checked forbidden edges checked, none exists"
