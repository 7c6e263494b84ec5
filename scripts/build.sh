#!/usr/bin/env bash
# Builds the six binaries into bin/: static, reproducible, two at a time, saying what it is at. With --pkcs11 only the
# custodian for PKCS#11 tokens.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh

BINARIES="
. agentkeys
. agentkeys-custodian
. agentkeys-rotator
. agentkeys-operator
devcloud agentkeys-devcloud
chain agentkeysd
"
TICK=10

# ticker NAME: a line now and then, because a cold build of the chain takes minutes.
ticker() {
  local seconds=0
  # The sleep outlives a kill of this loop for a moment, so it must not hold the reader of our output.
  while sleep "$TICK" >/dev/null 2>&1; do
    seconds=$((seconds + TICK))
    printf '      %s: still building, %d s\n' "$1" "$seconds"
  done
}

# compile MODULE NAME
compile() {
  if [ ! -d "$1/cmd/$2" ]; then
    echo "build: $1/cmd/$2 is missing from this checkout" >&2
    return 1
  fi
  local bin="$PWD/bin" flags="-s -w"
  # The command says what it was built from; what enclaves measure does not depend on it.
  [ "$2" != agentkeys ] || flags="$flags -X main.commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
  # The enclaves erase what they leave in freed memory: docs/adr/0014, docs/adr/0018.
  local experiment=""
  case "$2" in agentkeys-custodian | agentkeys-rotator) experiment=runtimesecret ;; esac
  (cd "$1" && GOEXPERIMENT="$experiment" go build -p 2 -trimpath -buildvcs=false -ldflags="$flags" -o "$bin/$2" "./cmd/$2")
}

mkdir -p bin
# A token's library is C: the custodian that has a PKCS#11 anchor is a build of its own, into bin/pkcs11.
if [ "${1:-}" = --pkcs11 ]; then
  mkdir -p bin/pkcs11
  GOEXPERIMENT=runtimesecret CGO_ENABLED=1 go build -p 2 -tags netgo,osusergo -trimpath -buildvcs=false -ldflags="-s -w" -o bin/pkcs11/agentkeys-custodian ./cmd/agentkeys-custodian
  echo "built bin/pkcs11/agentkeys-custodian, for anchors on PKCS#11 tokens"
  exit
fi
count=0 failed=0 TICKER=""
trap '[ -z "$TICKER" ] || kill "$TICKER" 2>/dev/null || true' EXIT
while read -r module name; do
  [ -n "$module" ] || continue
  count=$((count + 1))
  SECONDS=0
  printf '[%d/6] building %s\n' "$count" "$name"
  ticker "$name" &
  TICKER=$!
  result="done"
  compile "$module" "$name" || { result="FAILED"; failed=$((failed + 1)); }
  if kill "$TICKER" 2>/dev/null; then wait "$TICKER" 2>/dev/null || true; fi
  TICKER=""
  printf '      %s: %s, %d s\n' "$name" "$result" "$SECONDS"
done <<<"$BINARIES"

if [ "$failed" -gt 0 ]; then
  echo "build: $failed of $count failed" >&2
  exit 1
fi
