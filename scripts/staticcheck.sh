#!/usr/bin/env bash
# staticcheck at one version, built by the same Go as the code it reads. Rules: staticcheck.conf.
# Findings in generated protobuf code are left out: its generator decides what it imports.
set -euo pipefail
VERSION=v0.8.2
GENERATED='^[^ :]+\.pb(\.gw)?\.go:[0-9]+:[0-9]+: '

# check reads the module in the current folder. Its failure counts unless generated code alone explains it.
check() {
  local found status=0 left
  found="$(go run "honnef.co/go/tools/cmd/staticcheck@$VERSION" ./... 2>&1)" || status=$?
  [ "$status" != 0 ] || return 0
  left="$(printf '%s\n' "$found" | grep -vE "$GENERATED|^exit status 1\$" || true)"
  if [ -z "$left" ] && printf '%s\n' "$found" | grep -qE "$GENERATED"; then return 0; fi
  printf '%s\n' "${left:-staticcheck failed: $found}"
  return 1
}

if [ "${1:-}" = check ]; then
  check
else
  here="$(cd "$(dirname "$0")" && pwd)"
  exec "$here/each-module.sh" "$here/staticcheck.sh" check
fi
