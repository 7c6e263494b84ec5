#!/usr/bin/env bash
# Prepares a machine for working on AgentKeys. See docs/dev-setup/README.md, or --help.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CHECK=0 MINIMAL=0 YES=0 BUILD=1 ASK=0
ROWS="" MISSING=0 BROUGHT=0 WORK=""

# shellcheck source=scripts/setup/find.sh
. "$ROOT/scripts/setup/find.sh"
# shellcheck source=scripts/setup/packages.sh
. "$ROOT/scripts/setup/packages.sh"
# shellcheck source=scripts/setup/download.sh
. "$ROOT/scripts/setup/download.sh"
# shellcheck source=scripts/setup/toolchain.sh
. "$ROOT/scripts/setup/toolchain.sh"
# shellcheck source=scripts/setup/tools.sh
. "$ROOT/scripts/setup/tools.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/setup-dev-env.sh [--check] [--minimal] [--yes] [--no-build]

Brings what is missing for working on AgentKeys, builds it, tries it, and prints a table.
Safe to run again: what is there is left alone. Browsers and cloud resources are never touched.

  --check     report only; exit 1 when something is missing
  --minimal   only what make demo and make test need: git, curl, make, Go, a C compiler
  --yes       ask nothing (sudo only where it needs no password)
  --no-build  leave out the build and its trial at the end

Exit: 0 everything is there, 1 something is missing (the table says what to do), 2 wrong use or unknown system.
Environment: GOPROXY for Go, AGENTKEYS_JJ_NAME and AGENTKEYS_JJ_EMAIL for jj, AGENTKEYS_TOOLS for the folder
of this project's own copies (default ~/.local/share/agentkeys).
Example: scripts/setup-dev-env.sh --minimal --yes && make demo
TEXT
}

say() { printf '%s\n' "$*" >&2; }

options() {
  local option
  for option in "$@"; do
    case "$option" in
      --check) CHECK=1 BUILD=0 ;;
      --minimal) MINIMAL=1 ;;
      --yes) YES=1 ;;
      --no-build) BUILD=0 ;;
      -h | --help) usage; exit 0 ;;
      *) say "setup: unknown option $option"; usage >&2; exit 2 ;;
    esac
  done
  if [ -z "${HOME:-}" ]; then
    say "setup: HOME is not set; set it to your home folder"
    exit 2
  fi
  if [ "$CHECK" = 0 ] && [ "$YES" = 0 ]; then
    if [ -t 0 ]; then ASK=1; else say "setup: no terminal to ask on; add --yes or --check"; exit 2; fi
  fi
}

wanted_tools() {
  echo git curl make go cc
  [ "$MINIMAL" = 1 ] || echo jq node jj identity aws
}

# optional TOOL: its absence changes how something is done, not whether.
optional() { [ "$1" = cc ]; }

label() {
  case "$1" in
    cc) echo "C compiler" ;;
    go) echo "Go" ;;
    node) echo "Node.js" ;;
    identity) echo "jj identity" ;;
    aws) echo "AWS CLI" ;;
    *) echo "$1" ;;
  esac
}

row() { ROWS="$ROWS$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"$'\n'; }

# announce says what is going to happen and, with a person there, asks.
announce() {
  local tool plan="" answer
  for tool in $(wanted_tools); do
    "have_$tool" || plan="$plan  $(label "$tool"): $("plan_$tool")"$'\n'
  done
  [ -n "$plan" ] || return 0
  say "Plan ($PM, $(system)/$(processor)):"
  printf '%s' "$plan" >&2
  [ "$ASK" = 1 ] || return 0
  read -r -p "Go on? [y/N] " answer
  case "$answer" in y | Y | yes) ;; *) say "setup: nothing was changed"; exit 2 ;; esac
}

# handle TOOL: one row of the table. A tool that cannot be had does not stop the next.
handle() {
  local tool="$1" name before
  name="$(label "$tool")"
  if "have_$tool"; then
    row "$name" "$("want_$tool")" "$FOUND" "nothing to do"
    return 0
  fi
  before="${FOUND:-none}"
  if [ "$CHECK" = 1 ]; then
    lacking "$tool" "$before" "missing: $("plan_$tool")"
    return 0
  fi
  WHY=""
  if workspace && "get_$tool" && hash -r && "have_$tool"; then
    BROUGHT=$((BROUGHT + 1))
    row "$name" "$("want_$tool")" "$before" "installed $FOUND"
  else
    lacking "$tool" "$before" "MISSING: ${WHY:-installed, but still not usable}"
  fi
}

# workspace: beside the final place, so that putting a tool there is one rename; gone at the end.
workspace() {
  [ -z "$WORK" ] || return 0
  mkdir -p "$(tools_dir)" 2>/dev/null && WORK="$(mktemp -d "$(tools_dir)/.work.XXXXXX" 2>/dev/null)" && return 0
  WHY="cannot write $(tools_dir): set AGENTKEYS_TOOLS to a folder of yours"
  return 1
}

lacking() {
  if optional "$1"; then
    row "$(label "$1")" "$("want_$1")" "$2" "${3}; without it tests run without the race detector"
    return 0
  fi
  MISSING=$((MISSING + 1))
  row "$(label "$1")" "$("want_$1")" "$2" "$3"
}

# try_build builds the workspace and starts each binary once.
try_build() {
  [ "$BUILD" = 1 ] || return 0
  if ! have_go; then
    row "workspace" "builds, answers" "none" "not tried: no Go"
    return 0
  fi
  say "Building, then trying the binaries"
  if make -C "$ROOT" --no-print-directory build smoke >&2; then
    row "workspace" "builds, answers" "yes" "built and tried"
  else
    MISSING=$((MISSING + 1))
    row "workspace" "builds, answers" "no" "FAILED: see above, then: make build smoke"
  fi
}

table() {
  printf '%s' "$ROWS" | awk -F '\t' '
    BEGIN { line("tool", "wanted", "found", "done") }
    { line($1, $2, $3, $4) }
    function line(a, b, c, d) { printf "%-12s  %-18s  %-22s  %s\n", a, b, c, d }'
}

closing() {
  if [ -n "$ASKED_ADMIN" ]; then
    # shellcheck disable=SC2086
    echo "Ask an administrator to run: $(install_command $ASKED_ADMIN)"
  fi
  if [ "$BROUGHT" -gt 0 ]; then
    echo "Installed $BROUGHT."
    if [ -n "$(own_paths)" ]; then
      echo "This project's own copies are in $(tools_dir); make finds them. For your shell:"
      echo "  export PATH=\"$(own_paths)\$PATH\""
    fi
  elif [ -n "$CHANGED" ]; then
    echo "Nothing wanted was completed. Changed on the way:$CHANGED."
  elif [ "$CHECK" = 0 ]; then
    echo "Nothing was changed."
  fi
  [ "$MISSING" = 0 ] || echo "$MISSING missing: the table says what to do."
  [ "$MISSING" = 0 ]
}

own_paths() {
  local dir
  for dir in "$(tools_dir)"/*-*/bin "$(tools_dir)/bin"; do
    [ -d "$dir" ] && printf '%s:' "$dir"
  done
  return 0
}

main() {
  options "$@"
  if ! detect_packages; then
    say "setup: $WHY"
    exit 2
  fi
  PRIVILEGE="$(privilege)"
  trap '[ -z "$WORK" ] || rm -rf "$WORK"' EXIT
  [ "$CHECK" = 1 ] || announce
  local tool
  for tool in $(wanted_tools); do
    handle "$tool"
  done
  try_build
  table
  closing
}

main "$@"
