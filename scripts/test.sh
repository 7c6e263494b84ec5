#!/usr/bin/env bash
# test.sh [testsum flags]: the tests of every module, with the race detector where this machine has a compiler.
# RACE names the modules to race. The chain's dependencies alone take minutes to build for it, so CI adds chain.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh

export AGENTKEYS_BIN="$PWD/bin"
race="${RACE:-.,devcloud}"
if ! have_cc; then
  echo "test: no C compiler, so without the race detector. To have it: scripts/setup-dev-env.sh --minimal"
  race=""
fi
# Built first: "go run" would add a line of its own after the closing one.
go build -o .cache/testsum ./scripts/testsum
exec .cache/testsum -race "$race" "$@" . devcloud chain
