# shellcheck shell=bash
# Files from elsewhere: fetched, checked, unpacked. Nothing is unpacked before its check held.
# shellcheck disable=SC2034 # WHY is read by setup-dev-env.sh

# fetch URL FILE
fetch() {
  curl -fsSL --retry 2 --connect-timeout 15 --max-time 900 -o "$2" "$1" 2>/dev/null
}

# redact URL: without a name and password.
redact() {
  printf '%s\n' "$1" | sed -E 's#//[^/@]*@#//#'
}

# digest BITS FILE
digest() {
  if command -v "sha$1sum" >/dev/null 2>&1; then
    "sha$1sum" "$2" | cut -d ' ' -f 1
  else
    shasum -a "$1" "$2" | cut -d ' ' -f 1
  fi
}

# unzip_into FILE DIR, by whatever is there: a Debian with git has perl, and perl has an unzipper.
# Modes are not kept by all of them; the caller sets what must be executable.
unzip_into() {
  mkdir -p "$2" || return 1
  if command -v unzip >/dev/null 2>&1; then
    unzip -q -o "$1" -d "$2" && return 0
  fi
  if command -v bsdtar >/dev/null 2>&1; then
    bsdtar -xf "$1" -C "$2" && return 0
  fi
  if command -v python3 >/dev/null 2>&1; then
    python3 -m zipfile -e "$1" "$2" 2>/dev/null && return 0
  fi
  if command -v perl >/dev/null 2>&1; then
    perl "$ROOT/scripts/setup/unzip.pl" "$1" "$2" 2>/dev/null && return 0
  fi
  packages unzip || return 1
  unzip -q -o "$1" -d "$2" || { WHY="cannot unpack: is the disk full?"; return 1; }
}
