#!/usr/bin/env bash
# each-module.sh CMD...: runs CMD in every module, all of them even when one fails.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=scripts/env.sh
. scripts/env.sh

status=0
for module in . devcloud chain; do
  if [ ! -f "$module/go.mod" ]; then
    echo "module: $module/go.mod is missing from this checkout" >&2
    status=1
    continue
  fi
  echo "== $module: $*" >&2
  (cd "$module" && "$@") || status=1
done
exit "$status"
