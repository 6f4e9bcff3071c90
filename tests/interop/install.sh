#!/usr/bin/env bash
# Installs the pinned peers of package-lock.json into node_modules: a chain (anvil), its command line (cast) and two
# JavaScript clients. Tests that need one look for it there. Needs npm; without it, it says so and passes, and the tests
# say that they were skipped; in CI, where nothing may be skipped unseen, both fail.
set -euo pipefail
cd "$(dirname "$0")"

skip() {
  echo "interop: skipped, $1"
  if [ "${CI:-}" = true ]; then exit 1; else exit 0; fi
}

command -v npm >/dev/null && command -v node >/dev/null || skip "npm isn't installed (Node 20 or later has it)"

# Two of these at once would empty the folder under each other. Where there is no flock, nobody runs two.
if command -v flock >/dev/null; then
  exec 9> .installing
  flock 9
fi

# A stamp instead of npm's own check: `npm ci` empties node_modules every time.
stamp=node_modules/.installed-for
if ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
  npm ci --silent --no-audit --no-fund --ignore-scripts || skip "npm can't install the pinned peers"
  cp package-lock.json "$stamp"
fi
