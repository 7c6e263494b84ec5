# shellcheck shell=bash
# The other tools: want_* says what is wanted, plan_* how it would come, get_* brings it or returns 1 with WHY.

get_packaged() {
  # shellcheck disable=SC2046
  packages $(package_of "$1")
}

plan_packaged() {
  # shellcheck disable=SC2046
  install_command $(package_of "$1")
}

want_git() { echo any; }
plan_git() { plan_packaged git; }
get_git() { get_packaged git; }
want_curl() { echo any; }
plan_curl() { plan_packaged curl; }
get_curl() { get_packaged curl; }
want_make() { echo any; }
plan_make() { plan_packaged make; }
get_make() { get_packaged make; }
want_jq() { echo any; }
plan_jq() { plan_packaged jq; }
get_jq() { get_packaged jq; }
want_cc() { echo "any, for -race"; }
plan_cc() { plan_packaged cc; }
get_cc() { get_packaged cc; }

JJ_BY_HAND="see https://docs.jj-vcs.dev/latest/install-and-setup, then run this again"

want_jj() { echo any; }
plan_jj() {
  case "$PM" in
    apt) echo "$(plan_packaged jj) where apt has it, else cargo install --locked --bin jj jj-cli" ;;
    *) plan_packaged jj ;;
  esac
}

get_jj() {
  refresh_apt
  if [ "$PM" != apt ] || apt_has jujutsu 0; then
    get_packaged jj && return 0
  else
    WHY="apt has no jujutsu"
  fi
  if ! command -v cargo >/dev/null 2>&1; then
    WHY="$WHY; $JJ_BY_HAND"
    return 1
  fi
  say "  cargo install --locked --bin jj jj-cli"
  # cargo checks every source against the lock file that jj's authors published.
  cargo install --quiet --locked --root "$(tools_dir)" --bin jj jj-cli >/dev/null 2>&1 </dev/null && return 0
  WHY="$WHY, cargo cannot bring jj-cli; $JJ_BY_HAND"
  return 1
}

IDENTITY_BY_HAND="run: jj config set --user user.name 'YOUR NAME' && jj config set --user user.email YOU@EXAMPLE.ORG (or set AGENTKEYS_JJ_NAME and AGENTKEYS_JJ_EMAIL)"

want_identity() { echo "your own"; }
plan_identity() { echo "ask you, or AGENTKEYS_JJ_NAME and AGENTKEYS_JJ_EMAIL; never overwritten"; }

get_identity() {
  if ! command -v jj >/dev/null 2>&1; then
    WHY="waits for jj"
    return 1
  fi
  identity_part user.name "${AGENTKEYS_JJ_NAME:-}" "Your name for jj" &&
    identity_part user.email "${AGENTKEYS_JJ_EMAIL:-}" "Your e-mail address for jj"
}

# identity_part SETTING VALUE QUESTION sets what is not set; an empty answer leaves it so.
identity_part() {
  local value="$2"
  [ -z "$(jj_setting "$1")" ] || return 0
  if [ -z "$value" ] && [ "$ASK" = 1 ]; then
    read -r -p "$3 (empty: later): " value
  fi
  if [ -z "$value" ]; then
    WHY="not given; $IDENTITY_BY_HAND"
    return 1
  fi
  (cd / && jj config set --user "$1" "$value" >/dev/null 2>&1) || { WHY="jj refused it; $IDENTITY_BY_HAND"; return 1; }
  CHANGED="$CHANGED $1"
}

AWS_KEY=FB5DB77FD5C118B80511ADA8A6310ACC4672475C
AWS_DOWNLOAD="https://awscli.amazonaws.com"
AWS_BY_HAND="see https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html (only for operators of a cloud store)"

want_aws() { echo "2"; }
plan_aws() {
  if [ "$PM" = apt ]; then
    echo "$(plan_packaged aws) where apt has version 2, else AWS's own zip, its signature checked"
  elif [ "$(system)" = linux ]; then
    echo "$(plan_packaged aws), else AWS's own zip, its signature checked"
  else
    plan_packaged aws
  fi
}

get_aws() {
  WHY=""
  refresh_apt
  if [ "$PM" != apt ] || apt_has awscli 2; then
    get_packaged aws && return 0
  fi
  if [ "$(system)" != linux ]; then
    WHY="$WHY; $AWS_BY_HAND"
    return 1
  fi
  local why="$WHY"
  aws_from_zip && return 0
  WHY="${why:+$why; }$WHY"
  return 1
}

# aws_from_zip installs into the user's home what AWS signed with its published key.
aws_from_zip() {
  local zip="$WORK/aws.zip" name part
  name="awscli-exe-linux-$(uname -m | sed s/arm64/aarch64/).zip"
  if ! command -v gpg >/dev/null 2>&1; then
    get_packaged gpg || { WHY="gpg is needed to check AWS's signature: $WHY"; return 1; }
  fi
  say "  fetching $name and its signature"
  if ! fetch "$AWS_DOWNLOAD/$name" "$zip" || ! fetch "$AWS_DOWNLOAD/$name.sig" "$zip.sig"; then
    WHY="cannot fetch from $AWS_DOWNLOAD ($TROUBLE); $AWS_BY_HAND"
    return 1
  fi
  signed_by_aws "$zip" || { WHY="signature of $name does not hold; nothing was installed"; return 1; }
  unzip_into "$zip" "$WORK/aws" || return 1
  for part in install dist/aws dist/aws_completer; do
    chmod +x "$WORK/aws/aws/$part" 2>/dev/null || true
  done
  "$WORK/aws/aws/install" --update -i "$(tools_dir)/aws-cli" -b "$(tools_dir)/bin" >/dev/null 2>&1 ||
    { WHY="AWS's installer failed; $AWS_BY_HAND"; return 1; }
}

# signed_by_aws FILE: FILE.sig is by that key and no other. Its expiry is left to AWS: they prolong the same key.
signed_by_aws() {
  local home="$WORK/gnupg"
  (umask 077 && mkdir -p "$home")
  gpg --homedir "$home" --batch --quiet --import "$ROOT/scripts/setup/aws-cli.asc" 2>/dev/null || return 1
  gpg --homedir "$home" --batch --status-fd 1 --verify "$1.sig" "$1" 2>/dev/null |
    grep -q "^\[GNUPG:\] VALIDSIG $AWS_KEY "
}
