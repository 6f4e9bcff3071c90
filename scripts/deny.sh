#!/usr/bin/env bash
# Licences, sources and banned crates of everything we ship, by deny.toml.
#
# Security advisories need a copy of the advisory database, which is not always reachable: they are
# checked where a copy is at hand, and the line printed says which of the two happened. What is known
# to be unsafe is refused in any case, by the least versions in deny.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo deny --locked --log-level error check --hide-inclusion-graph bans licenses sources
database="${CARGO_HOME:-$HOME/.cargo}/advisory-dbs"
if compgen -G "$database/*/.git" >/dev/null; then
  cargo deny --locked --log-level error check --disable-fetch --hide-inclusion-graph advisories
else
  echo "advisories not checked: no copy of the database in $database (cargo deny fetch makes one)"
fi
