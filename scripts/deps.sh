#!/usr/bin/env bash
# Installs what building and running needs: Debian packages that are missing, nothing when all are there.
#
#   deps.sh            check, install what is missing (as root), check the Go version
#   deps.sh --check    only check; says what is missing and fails
#
# Beyond this list the machine needs Go 1.26 or newer. Go modules come through the module proxy that Go is set to.
set -euo pipefail

# package:command that tells its presence where dpkg is absent ("-" for a header file)
packages=(
  gcc:gcc libc6-dev:- make:make git:git pkg-config:pkg-config libseccomp-dev:- # to build
  openssl:openssl iproute2:ip procps:sysctl                                    # to bring a cluster up
  nftables:nft                                                                 # several nodes: their way out
  busybox-static:busybox                                                       # test images
  curl:curl jq:jq ca-certificates:-                                            # to look at it, and to fetch modules
)
need_go=1.26

fail() { printf 'deps: %s\n' "$*" >&2; exit 1; }

missing_packages() {
  local p name command
  for p in "${packages[@]}"; do
    name=${p%%:*} command=${p##*:}
    if command -v dpkg-query >/dev/null; then
      [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
    elif [ "$command" != - ]; then
      command -v "$command" >/dev/null || echo "$name"
    fi
  done
}

install_packages() { # NAME...
  command -v apt-get >/dev/null || fail "please install these (Debian names), there is no apt-get here: $*"
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing: $*
      Run 'sudo scripts/deps.sh' once, or 'sudo apt-get install $*'."
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
  echo "deps: installing $*"
  # Fresh lists are fetched only when the ones at hand cannot do it.
  "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
  "${apt[@]}" update >/dev/null || fail "apt-get update failed; without these packages nothing can be built: $*"
  "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null || fail "apt-get could not install: $*"
}

check_go() {
  PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin # sudo forgets where Go is
  command -v go >/dev/null || fail "Go is not installed (or not in PATH). Go $need_go or newer is needed: https://go.dev/dl/"
  local have
  have=$(go env GOVERSION)
  have=${have#go}
  [ "$(printf '%s\n%s\n' "$need_go" "${have%%[!0-9.]*}" | sort -V | head -1)" = "$need_go" ] ||
    fail "Go $have is too old, $need_go or newer is needed: https://go.dev/dl/"
}

mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
  [ "${1:-}" != --check ] || fail "missing Debian packages: ${missing[*]}"
  install_packages "${missing[@]}"
fi
check_go
