#!/usr/bin/env bash
# Checks that docs/verification.md, the table `| claim | evidence | last value |`, names only evidence
# that exists. Every row's evidence is one or more of these in backquotes:
#   `make TARGET`                     a target of the Makefile
#   `test PACKAGE path::of::the_test` a Rust test that runs by default (not ignored)
#   `forge name_of_the_test`          a test or invariant of contracts/test
#   `script PATH`                     an executable of this repository
set -euo pipefail
cd "$(dirname "$0")/.."
page="docs/verification.md"
[ -f "$page" ] || { echo "verification: $page is missing" >&2; exit 1; }

# One "package path::of::the_test" per line; integration tests count as their package's.
list_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest list --locked --workspace --message-format oneline | awk '{ sub(/::.*/, "", $1); print $1, $2 }'
  else
    # Without nextest the binary's name is all there is, so the package is not checked.
    cargo test --locked --workspace --lib --bins --tests -- --list --format terse | sed -n 's/: test$//p' | sed 's/^/* /'
  fi
}
tests=$(list_tests)
forge_tests=$(grep -rhoE 'function +(test|invariant)[A-Za-z0-9_]*' contracts/test 2>/dev/null | awk '{ print $2 }' || true)

failures=0
claims=0
refuse() { failures=$((failures + 1)); echo "verification: $page:$1: $2" >&2; }

check_evidence() {
  local line=$1 kind=$2 first=${3:-} second=${4:-}
  case "$kind" in
    make) grep -qE "^$first:" Makefile || refuse "$line" "no such make target: $first" ;;
    test)
      grep -qxF -e "$first $second" -e "* $second" <<<"$tests" || refuse "$line" "no such test: $first $second" ;;
    forge) grep -qxF -- "$first" <<<"$forge_tests" || refuse "$line" "no such forge test: $first" ;;
    script) [ -x "$first" ] || refuse "$line" "no such executable: $first" ;;
    *) refuse "$line" "evidence must be \`make …\`, \`test …\`, \`forge …\` or \`script …\`, not \`$kind\`" ;;
  esac
}

number=0
while IFS= read -r row; do
  number=$((number + 1))
  [[ "$row" == \|* ]] || continue
  IFS='|' read -r _ claim evidence _ <<<"$row"
  [[ "$claim" =~ ^[[:space:]]*(claim[[:space:]]*)?$ || "$claim" =~ ^[[:space:]]*:?-+:?[[:space:]]*$ ]] && continue
  claims=$((claims + 1))
  mapfile -t named < <(grep -oE '`[^`]+`' <<<"$evidence" | tr -d '`')
  [ ${#named[@]} -gt 0 ] || refuse "$number" "a claim without evidence:$claim"
  for one in "${named[@]}"; do
    # shellcheck disable=SC2086 # split into words on purpose
    check_evidence "$number" $one
  done
done < "$page"

[ "$claims" -gt 0 ] || { echo "verification: $page states no claim" >&2; exit 1; }
[ "$failures" = 0 ] || exit 1
echo "verification: $claims claims, every piece of evidence exists"
