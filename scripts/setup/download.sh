# shellcheck shell=bash
# Files from elsewhere: fetched, checked, unpacked. Nothing is unpacked before its check held.
# shellcheck disable=SC2034 # WHY is read by setup-dev-env.sh

TROUBLE=""

# fetch URL FILE; on failure TROUBLE is curl's own word for why, which never repeats the address.
fetch() {
  TROUBLE="$(curl -fsSL --retry 2 --connect-timeout 15 --max-time 900 -o "$2" "$1" 2>&1)" && return 0
  TROUBLE="$(printf '%s\n' "$TROUBLE" | sed -n 's/^curl: //p' | head -n 1)"
  return 1
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

# can_unzip TOOL: it is there with what it needs. Debian's smallest perl and python lack the unzipping part.
can_unzip() {
  command -v "$1" >/dev/null 2>&1 || return 1
  case "$1" in
    python3) python3 -c 'import zipfile' 2>/dev/null ;;
    perl) perl -MIO::Uncompress::Unzip -e 1 2>/dev/null ;;
  esac
}

unzip_with() {
  case "$1" in
    unzip) unzip -q -o "$2" -d "$3" ;;
    bsdtar) bsdtar -xf "$2" -C "$3" ;;
    python3) python3 -m zipfile -e "$2" "$3" ;;
    perl) perl "$ROOT/scripts/setup/unzip.pl" "$2" "$3" ;;
  esac >/dev/null 2>&1
}

# unzip_into FILE DIR, by whatever is there: a Debian with git has a perl with an unzipper.
# Not all of them keep modes; the caller sets what must be executable.
unzip_into() {
  local tool
  mkdir -p "$2" || return 1
  for tool in unzip bsdtar python3 perl; do
    can_unzip "$tool" || continue
    unzip_with "$tool" "$1" "$2" && return 0
    WHY="$tool cannot unpack $(basename "$1"): is the disk full?"
    return 1
  done
  packages unzip && unzip_with unzip "$1" "$2"
}
