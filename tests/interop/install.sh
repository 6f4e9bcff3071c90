#!/usr/bin/env bash
# Installs the pinned peers: a chain (anvil), its command line (cast) and the JavaScript clients of package-lock.json into
# node_modules, and the Python clients of the requirements files into environments under the user's cache folder. Tests
# that need one look for it there. Needs npm and Python; without them it says so and passes, and the tests say that they
# were skipped; in CI, where nothing may be skipped unseen, both fail.
set -euo pipefail
cd "$(dirname "$0")"

skip() {
  echo "interop: skipped, $1"
  if [ "${CI:-}" = true ]; then exit 1; fi
}

javascript() {
  command -v npm >/dev/null && command -v node >/dev/null || { skip "npm isn't installed (Node 20 or later has it)"; return; }
  # Two of these at once would empty the folder under each other. Where there is no flock, nobody runs two.
  if command -v flock >/dev/null; then
    exec 9> .installing
    flock 9
  fi
  # A stamp instead of npm's own check: `npm ci` empties node_modules every time.
  local stamp=node_modules/.installed-for
  if ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
    npm ci --silent --no-audit --no-fund --ignore-scripts || { skip "npm can't install the pinned peers"; return; }
    cp package-lock.json "$stamp"
  fi
}

python() {
  local requirements
  for requirements in requirements.txt requirements-libp2p.txt; do
    ../../scripts/python.sh "$requirements" >/dev/null || skip "Python can't have what $requirements names"
  done
}

javascript
python
