# shellcheck shell=bash
# Go and Node.js where the system's are too old: this project's own copies in the user's home.
# shellcheck disable=SC2153 # WORK is set by setup-dev-env.sh

# The module's own origin (its go-import answer), for a machine without Go and without GOPROXY.
GO_ORIGIN="https://go.dev/dl/mod"

# go_proxies: the places to ask, one a line, as the go command would: GOPROXY, else what any Go here has as default.
go_proxies() {
  local list="${GOPROXY:-}" candidate entry
  if [ -z "$list" ]; then
    while IFS= read -r candidate; do
      list="$(cd / && GOTOOLCHAIN=local "$candidate" env GOPROXY 2>/dev/null)" && [ -n "$list" ] && break
    done < <(each_path go)
  fi
  for entry in $(printf '%s\n' "${list:-direct}" | tr ',|' '  '); do
    case "$entry" in
      off) return 0 ;;
      direct) echo "$GO_ORIGIN" ;;
      *) echo "${entry%/}" ;;
    esac
  done
}

# fetch_toolchain FILE: the pinned zip from the first place that has the right bytes.
fetch_toolchain() {
  local version name proxy hash tried=""
  version="$(pin go version)"
  hash="$(pin go hash)"
  name="golang.org/toolchain/@v/v0.0.1-go$version.$(system)-$(processor).zip"
  while IFS= read -r proxy; do
    say "  fetching Go $version from $(redact "$proxy")"
    if ! fetch "$proxy/$name" "$1"; then
      tried="$tried $(redact "$proxy")${TROUBLE:+: $TROUBLE};"
      continue
    fi
    [ "$(digest 256 "$1")" = "$hash" ] && return 0
    WHY="checksum of Go $version from $(redact "$proxy") is not the pinned one; nothing was installed. Set GOPROXY to a place you trust"
    return 1
  done < <(go_proxies)
  WHY="cannot fetch Go $version (tried${tried:-: nothing, GOPROXY is off}). Set GOPROXY to a reachable one, or install Go $(go_wanted) or newer by hand"
  return 1
}

# place_toolchain ZIP DIR: all or nothing, by one rename at the end.
# The module's zip has no modes and spells go.mod as _go.mod; the go command undoes both the same way.
place_toolchain() {
  local work inner file
  work="$1.d"
  unzip_into "$1" "$work" || { WHY="${WHY:-cannot unpack Go: install unzip}"; return 1; }
  inner="$work/golang.org/toolchain@v0.0.1-go$(pin go version).$(system)-$(processor)"
  chmod +x "$inner"/bin/* || { WHY="zip without bin/go"; return 1; }
  find "$inner/pkg/tool" "$inner/lib" -type f -path '*/tool/*' -exec chmod +x {} + 2>/dev/null || true
  find "$inner/lib" -type f -name 'go_*_exec' -exec chmod +x {} + 2>/dev/null || true
  while IFS= read -r file; do
    mv "$file" "$(dirname "$file")/go.mod"
  done < <(find "$inner/src" -name _go.mod 2>/dev/null)
  if ! { mkdir -p "$(dirname "$2")" && rm -rf "$2" && mv "$inner" "$2"; }; then
    WHY="cannot write $2"
    return 1
  fi
}

want_go() { echo "$(go_wanted) or newer"; }
plan_go() {
  if [ -n "$(pin go version)" ]; then
    echo "Go $(pin go version) (module golang.org/toolchain, pinned SHA-256) into $(tools_dir)"
  else
    install_command "$(package_of go)"
  fi
}

get_go() {
  local version file
  version="$(pin go version)"
  if [ -z "$version" ]; then
    get_packaged go
    return
  fi
  if ! version_ge "$version" "$(go_wanted)"; then
    WHY="scripts/setup/pins.txt has Go $version, go.mod wants $(go_wanted): raise the pin"
    return 1
  fi
  file="$WORK/go.zip"
  if ! fetch_toolchain "$file"; then
    # A packaged Go, however old, may be new enough after all, and knows the default GOPROXY.
    case "$WHY" in *checksum*) return 1 ;; esac
    if [ -n "${GOPROXY:-}" ] || [ -n "$(each_path go)" ]; then return 1; fi
    local why="$WHY"
    # shellcheck disable=SC2046
    packages $(package_of go) || { WHY="$why; $WHY"; return 1; }
    find_go >/dev/null && return 0
    fetch_toolchain "$file" || return 1
  fi
  place_toolchain "$file" "$(tools_dir)/go-$version"
}

want_node() { echo "20 or newer"; }
plan_node() {
  if command -v npm >/dev/null 2>&1 && [ -n "$(pin node version)" ]; then
    echo "Node.js $(pin node version) (npm package node, pinned SHA-512) into $(tools_dir)"
  else
    # shellcheck disable=SC2046
    echo "$(install_command $(package_of node)); where that is older than 20, the npm package node"
  fi
}

get_node() {
  if ! command -v npm >/dev/null 2>&1; then
    get_packaged node || return 1
    have_node && return 0
  fi
  node_from_npm
}

# node_from_npm takes what the npm package node would install for this system, without running its scripts.
node_from_npm() {
  local version package file
  version="$(pin node version)"
  if [ -z "$version" ]; then
    WHY="no pinned Node.js for $(system)/$(processor): install Node.js 20 or newer by hand"
    return 1
  fi
  package="node-$(system)-$(processor | sed s/amd64/x64/)"
  say "  fetching Node.js $version from npm"
  if ! (cd "$WORK" && npm pack --silent "$package@$version" >/dev/null 2>&1 </dev/null); then
    WHY="npm cannot bring $package@$version: check npm's registry setting, or install Node.js 20 or newer by hand"
    return 1
  fi
  file="$WORK/$package-$version.tgz"
  if [ "$(digest 512 "$file")" != "$(pin node hash)" ]; then
    WHY="checksum of $package@$version is not the pinned one; nothing was installed"
    return 1
  fi
  if ! { mkdir -p "$WORK/node" "$(tools_dir)" && tar -xzf "$file" -C "$WORK/node"; }; then
    WHY="cannot unpack Node.js into $(tools_dir)"
    return 1
  fi
  chmod +x "$WORK/node/package/bin/node"
  rm -rf "$(tools_dir)/node-$version"
  mv "$WORK/node/package" "$(tools_dir)/node-$version"
}
