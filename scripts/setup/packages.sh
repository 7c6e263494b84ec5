# shellcheck shell=bash
# The system's package manager: which one, what it calls things, and how to ask it.
# WHY is set by whatever failed: what went wrong and the next step, for the table.
# shellcheck disable=SC2034 # which setup-dev-env.sh prints

PM=""
PRIVILEGE=""
WHY=""
ASKED_ADMIN=""
UPDATED=""
CHANGED=""

# detect_packages sets PM or returns 1 with WHY.
detect_packages() {
  local os manager
  os="$(system)"
  case "$os" in
    darwin)
      if command -v brew >/dev/null 2>&1; then PM=brew; return 0; fi
      WHY="macOS without Homebrew: install Homebrew (https://brew.sh), then run this again"
      return 1
      ;;
    linux)
      for manager in apt-get dnf pacman; do
        if command -v "$manager" >/dev/null 2>&1; then PM="${manager%-get}"; return 0; fi
      done
      WHY="Linux without apt, dnf or pacman: install the tools by hand, see docs/dev-setup/README.md"
      return 1
      ;;
    *)
      WHY="$os is not supported: use macOS, or Linux with apt, dnf or pacman, see docs/dev-setup/README.md"
      return 1
      ;;
  esac
}

# package_of TOOL: what this system's package manager calls it; empty when it has none.
package_of() {
  case "$PM:$1" in
    apt:cc) echo gcc libc6-dev ;;
    dnf:cc) echo gcc glibc-devel ;;
    pacman:cc) echo gcc glibc ;;
    apt:go) echo golang-go ;;
    dnf:go) echo golang ;;
    pacman:go | brew:go) echo go ;;
    apt:node | dnf:node | pacman:node) echo nodejs npm ;;
    brew:node) echo node ;;
    brew:jj) echo jj ;;
    apt:jj | dnf:jj | pacman:jj) echo jujutsu ;;
    apt:aws | brew:aws) echo awscli ;;
    dnf:aws) echo awscli2 ;;
    pacman:aws) echo aws-cli-v2 ;;
    apt:gpg | pacman:gpg | brew:gpg) echo gnupg ;;
    dnf:gpg) echo gnupg2 ;;
    apt:curl) echo curl ca-certificates ;;
    *) echo "$1" ;;
  esac
}

install_command() {
  case "$PM" in
    apt) echo "apt-get install -y --no-install-recommends $*" ;;
    dnf) echo "dnf install -y $*" ;;
    pacman) echo "pacman -S --needed --noconfirm $*" ;;
    brew) echo "brew install $*" ;;
  esac
}

# privilege: how this user gets to be root: "none" (not needed), "sudo", or "no".
privilege() {
  if [ "$PM" = brew ] || [ "$(id -u)" = 0 ]; then
    echo none
  elif ! command -v sudo >/dev/null 2>&1; then
    echo no
  elif sudo -n true 2>/dev/null; then
    echo sudo
  elif [ "$ASK" = 1 ]; then
    echo sudo
  else
    echo no
  fi
}

# as_root CMD...: no prompt unless the person at the terminal may be asked.
as_root() {
  if [ "$PRIVILEGE" = none ]; then
    "$@"
  elif [ "$ASK" = 1 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

# install_now PKG...
install_now() {
  case "$PM" in
    apt) as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ;;
    dnf) as_root dnf install -y "$@" ;;
    pacman) as_root pacman -S --needed --noconfirm "$@" ;;
    brew) HOMEBREW_NO_AUTO_UPDATE=1 HOMEBREW_NO_INSTALL_UPGRADE=1 brew install "$@" ;;
  esac 2>&1 </dev/null
}

# packages PKG...: installs them and notes that in CHANGED, or returns 1 with WHY.
packages() {
  local output
  if [ "$PRIVILEGE" = no ]; then
    ASKED_ADMIN="$ASKED_ADMIN $*"
    WHY="needs an administrator: $(install_command "$@")"
    return 1
  fi
  refresh_apt
  say "  $(install_command "$@")"
  if output="$(install_now "$@")"; then
    CHANGED="$CHANGED $*"
    return 0
  fi
  output="$(printf '%s\n' "$output" | grep -v '^[[:space:]]*$' | tail -n 1)"
  WHY="$PM cannot bring $* ($output); check its sources, then: $(install_command "$@")"
  return 1
}

# refresh_apt reads apt's lists anew, once a run. Old ones may still serve, so a failure is no reason to stop.
refresh_apt() {
  if [ "$PM" != apt ] || [ -n "$UPDATED" ] || [ "$PRIVILEGE" = no ]; then return 0; fi
  UPDATED=1
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update >/dev/null 2>&1 </dev/null || true
}

# apt_has PKG VERSION: apt offers PKG at VERSION or newer. Epochs ("1:") are cut off.
apt_has() {
  local candidate
  candidate="$(apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" { print $2 }')"
  case "$candidate" in "" | "(none)") return 1 ;; esac
  version_ge "${candidate#*:}" "$2"
}
