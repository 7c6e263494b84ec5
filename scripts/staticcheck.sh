#!/usr/bin/env bash
# staticcheck at one version, built by the same Go as the code it reads. Rules: staticcheck.conf.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=v0.8.2
exec scripts/each-module.sh go run "honnef.co/go/tools/cmd/staticcheck@$VERSION" ./...
