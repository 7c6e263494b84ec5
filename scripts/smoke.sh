#!/usr/bin/env bash
# Starts each binary in bin/ once: it must answer --help.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
for name in agentkeys agentkeys-custodian agentkeys-rotator agentkeys-operator agentkeysd agentkeys-devcloud; do
  if ! [ -x "bin/$name" ]; then
    echo "smoke: bin/$name is missing; run: make build" >&2
    failed=1
  elif ! "bin/$name" --help >/dev/null 2>&1 </dev/null; then
    echo "smoke: bin/$name --help failed" >&2
    failed=1
  fi
done
[ "$failed" = 0 ] && echo "smoke: six binaries answer"
exit "$failed"
