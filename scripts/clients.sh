#!/usr/bin/env bash
# The clients that the proxy is tested with: clients.sh DIR brings what is missing. Python and the AWS CLI come from
# the system's packages where root may install them, Node.js and the OpenAI SDK from npm into DIR. What cannot be had is
# named; its test then skips, or fails where AGENTKEYS_CLIENTS is set.
set -uo pipefail
dir="${1:?usage: clients.sh DIR}"
mkdir -p "$dir"

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  wanted=""
  [ -x /usr/bin/curl ] || wanted="$wanted curl"
  [ -x /usr/bin/git ] || wanted="$wanted git"
  /usr/bin/python3 -c 'import requests' >/dev/null 2>&1 || wanted="$wanted python3-requests"
  /usr/bin/python3 -c 'import httpx' >/dev/null 2>&1 || wanted="$wanted python3-httpx"
  [ -x /usr/bin/aws ] || wanted="$wanted awscli"
  command -v dbus-run-session >/dev/null 2>&1 || wanted="$wanted dbus"
  command -v gnome-keyring-daemon >/dev/null 2>&1 || wanted="$wanted gnome-keyring"
  command -v npm >/dev/null 2>&1 || wanted="$wanted npm"
  if [ -n "$wanted" ]; then
    apt-get update -qq >/dev/null 2>&1
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $wanted >/dev/null 2>&1 || echo "clients: could not install$wanted" >&2
  fi
fi

if [ ! -x "$dir/node_modules/.bin/node" ] || [ ! -d "$dir/node_modules/openai" ]; then
  if command -v npm >/dev/null 2>&1; then
    npm install --silent --no-audit --no-fund --prefix "$dir" node@24 openai@6 >/dev/null 2>&1 || echo "clients: npm could not bring node@24 and openai@6" >&2
  else
    echo "clients: npm is missing" >&2
  fi
fi
exit 0
