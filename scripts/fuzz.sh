#!/usr/bin/env bash
# fuzz.sh [TIME]: every fuzz target of every module for TIME (5s). Stops at the first finding of a target, goes on with the next.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh

time="${1:-5s}" count=0 failed=0
while IFS=: read -r file line; do
  dir="$(dirname "$file")"
  target="$(printf '%s\n' "$line" | sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/')"
  count=$((count + 1))
  echo "== $dir $target"
  (cd "$dir" && go test -p 2 -run '^$' -fuzz "^$target\$" -fuzztime "$time" .) || failed=$((failed + 1))
done < <(grep -rE --include='*_test.go' '^func Fuzz[A-Z]' . | sort)
echo "fuzz: $count targets, $failed with findings"
if [ "$count" = 0 ]; then
  echo "fuzz: no target ran" >&2
  exit 1
fi
[ "$failed" = 0 ]
