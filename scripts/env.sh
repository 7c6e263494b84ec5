# shellcheck shell=bash
# The environment of every build and test; sourced by the Makefile's recipes, needs bash.
# It finds a Go that go.mod accepts and takes out what a person's own settings could change.

ROOT="${ROOT:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
# shellcheck source=scripts/setup/find.sh
. "$ROOT/scripts/setup/find.sh"

if ! GO_DIR="$(find_go)"; then
  echo "go: none here is $(go_wanted) or newer. Run: scripts/setup-dev-env.sh --minimal" >&2
  exit 1
fi
if [ "$(command -v go || true)" != "$GO_DIR/go" ]; then
  export PATH="$GO_DIR:$PATH"
fi
# A go.work, a -mod or a switch of toolchain from outside would build something else than the checkout.
export GOTOOLCHAIN=local GOWORK=off GOFLAGS=-buildvcs=false
export CGO_ENABLED=0
unset GO_DIR GOEXPERIMENT GOROOT
