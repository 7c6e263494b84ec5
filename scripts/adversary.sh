#!/usr/bin/env bash
# adversary.sh [list | MUTANT]: the thief who kept everything, against the binaries in bin/.
# Without a name everything in its long form: the vault as it is, what keeps old objects, and every mutant.
# With the name of a mutant only that one, which has to fail. ADVERSARY_RUN=regexp chooses among the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh

mutant="${1:-}"
if [ "$mutant" = list ]; then
  for file in adversary/mutants/*.patch; do
    if grep -q '^caught: ' "$file"; then
      printf '%-24s %s\n' "$(basename "$file" .patch)" "$(sed -n 's/^what: //p' "$file")"
    fi
  done
  exit
fi

export AGENTKEYS_BIN="$PWD/bin"
if [ -n "$mutant" ]; then
  exec env AGENTKEYS_MUTANT="$mutant" go test -count=1 -v -timeout 20m -run '^TestAdversary$' ./adversary
fi
exec env AGENTKEYS_ADVERSARY=long go test -count=1 -v -timeout 60m -run "${ADVERSARY_RUN:-.}" ./adversary
