# shellcheck shell=bash
# What is on this machine already. Nothing here changes anything.
# Needs ROOT, the checkout. Each have_* sets FOUND to what it saw and returns 0 when that is enough.

FOUND=""

# tools_dir is where this project's own copies of tools go: the user's, never the system's.
tools_dir() {
  printf '%s\n' "${AGENTKEYS_TOOLS:-${XDG_DATA_HOME:-$HOME/.local/share}/agentkeys}"
}

# version_ge A B: dotted numbers, A at least B. A suffix such as rc1 counts as nothing.
version_ge() {
  local a b i x y
  IFS=. read -r -a a <<<"$1."
  IFS=. read -r -a b <<<"$2."
  for i in 0 1 2; do
    x="${a[i]:-0}" y="${b[i]:-0}"
    x="${x%%[!0-9]*}" y="${y%%[!0-9]*}"
    x="${x:-0}" y="${y:-0}"
    ((10#$x > 10#$y)) && return 0
    ((10#$x < 10#$y)) && return 1
  done
  return 0
}

system() {
  case "$(uname -s)" in
    Linux) echo linux ;;
    Darwin) echo darwin ;;
    *) uname -s ;;
  esac
}

processor() {
  case "$(uname -m)" in
    x86_64 | amd64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# pin NAME FIELD: version or hash of NAME for this machine from pins.txt, empty when there is none.
pin() {
  awk -v name="$1" -v field="$2" -v os="$(system)" -v cpu="$(processor)" '
    $1 == name && $3 == os && $4 == cpu { print (field == "hash" ? $5 : $2); exit }
  ' "$ROOT/scripts/setup/pins.txt"
}

# go_wanted is the highest go or toolchain line of the three modules.
go_wanted() {
  local file version best=0
  for file in "$ROOT/go.mod" "$ROOT/chain/go.mod" "$ROOT/devcloud/go.mod"; do
    [ -f "$file" ] || continue
    while IFS= read -r version; do
      version_ge "$best" "$version" || best="$version"
    done < <(awk '$1 == "go" || $1 == "toolchain" { sub(/^go/, "", $2); print $2 }' "$file")
  done
  printf '%s\n' "$best"
}

# each_path NAME: every NAME on PATH, then this project's own copies.
each_path() {
  local tools
  tools="$(tools_dir)"
  type -aP "$1" 2>/dev/null | awk '!seen[$0]++' || true
  ls -d "$tools/$1"-*/bin/"$1" "$tools/bin/$1" 2>/dev/null || true
}

# go_version BINARY: its own version. From / and with switching off, so that no go.mod sends it for another.
go_version() {
  local version
  version="$(cd / && GOTOOLCHAIN=local GOFLAGS='' GOWORK=off "$1" env GOVERSION 2>/dev/null)" || return 1
  version="${version#go}"
  printf '%s\n' "${version%% *}"
}

# find_go prints the folder of the first Go that is new enough.
find_go() {
  local candidate version wanted
  wanted="$(go_wanted)"
  while IFS= read -r candidate; do
    version="$(go_version "$candidate")" || continue
    version_ge "$version" "$wanted" && dirname "$candidate" && return 0
  done < <(each_path go)
  return 1
}

have_go() {
  local dir candidate
  if dir="$(find_go)"; then
    FOUND="$(go_version "$dir/go")"
    return 0
  fi
  FOUND=""
  candidate="$(each_path go | head -n 1)"
  [ -z "$candidate" ] || FOUND="$(go_version "$candidate" || echo "not working") (too old)"
  return 1
}

# have_plain NAME: any version does.
have_plain() {
  FOUND=""
  command -v "$1" >/dev/null 2>&1 || return 1
  FOUND="$("$1" --version 2>/dev/null | head -n 1 | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1 || true)"
  FOUND="${FOUND:-present}"
}

have_git() { have_plain git; }
have_curl() { have_plain curl; }
have_make() { have_plain make; }
have_jq() { have_plain jq; }
have_jj() { have_plain jj; }

# have_cc: a compiler with its C library, shown by compiling. The race detector needs it on Linux only.
have_cc() {
  FOUND=""
  if [ "$(system)" = darwin ]; then
    FOUND="not needed on macOS"
    return 0
  fi
  local cc
  for cc in ${CC:-} gcc clang; do
    command -v "$cc" >/dev/null 2>&1 || continue
    if "$cc" -x c -o /dev/null - >/dev/null 2>&1 <<<$'#include <stdlib.h>\nint main(void) { return 0; }'; then
      FOUND="$("$cc" -dumpversion 2>/dev/null || echo present)"
      return 0
    fi
    FOUND="$cc without the C library"
  done
  return 1
}

# have_newest NAME PATTERN WANTED: first NAME whose version, cut out by the sed PATTERN, is WANTED or newer.
have_newest() {
  local candidate version
  FOUND=""
  while IFS= read -r candidate; do
    version="$("$candidate" --version 2>&1 | sed -nE "$2" | head -n 1)" || continue
    [ -n "$version" ] || continue
    if version_ge "$version" "$3"; then
      FOUND="$version"
      return 0
    fi
    FOUND="${FOUND:-$version (too old)}"
  done < <(each_path "$1")
  return 1
}

have_node() { have_newest node 's/^v([0-9][0-9.]*).*/\1/p' 20; }
have_aws() { have_newest aws 's#^aws-cli/([0-9][0-9.]*).*#\1#p' 2; }

# jj_setting NAME: the user's own setting. From /, so that no repository's setting stands in for it.
jj_setting() {
  (cd / && jj config get "$1" 2>/dev/null) || true
}

have_identity() {
  FOUND=""
  command -v jj >/dev/null 2>&1 || return 1
  local name email
  name="$(jj_setting user.name)"
  email="$(jj_setting user.email)"
  if [ -n "$name" ] && [ -n "$email" ]; then
    FOUND="$name <$email>"
    return 0
  fi
  [ -z "$name$email" ] || FOUND="$name <$email> (incomplete)"
  return 1
}
