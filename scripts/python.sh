#!/usr/bin/env bash
# Prints the folder of a Python environment that holds what a pinned requirements file names, made once per machine.
#
# Usage: python.sh REQUIREMENTS   e.g. "$(scripts/python.sh tests/interop/requirements.txt)/bin/python" script.py
# The environment lies under the user's cache folder, keyed by the file's hash and Python's version, so nothing is
# installed twice and nothing lands in the repository. It exits with 2 and says so where Python, venv or pip is
# missing, and with 1 where the packages can't be installed. Python only serves checks against other people's tools:
# building Windlass never needs it.
set -euo pipefail
requirements=${1:?usage: python.sh REQUIREMENTS}
[ -f "$requirements" ] || { echo "python.sh: no such file: $requirements" >&2; exit 2; }

command -v python3 >/dev/null || { echo "python.sh: python3 is missing; run scripts/setup.sh python" >&2; exit 2; }
python3 -c 'import venv, ensurepip' 2>/dev/null \
  || { echo "python.sh: this python3 has no venv or no pip; run scripts/setup.sh python" >&2; exit 2; }

key=$( (python3 --version; cat "$requirements") | sha256sum | cut -c1-16)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/windlass"
environment="$cache/python-$key"

# An environment can't be moved once made, so a stamp written last tells a whole one from one that was interrupted.
if [ ! -f "$environment/.complete" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/python.lock"
  flock 9 # a second caller on this machine waits here and then finds the environment
  if [ ! -f "$environment/.complete" ]; then
    echo "python.sh: installing $requirements (once)" >&2
    rm -rf "$environment"
    python3 -m venv "$environment" >&2
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$requirements" >&2 \
      || { rm -rf "$environment"; echo "python.sh: the packages of $requirements can't be installed" >&2; exit 1; }
    touch "$environment/.complete"
  fi
fi
echo "$environment"
