#!/usr/bin/env bash
# Builds upstream's programs from their published modules into .hardway/peers, those that are missing or older than their versions:
#
#   build.sh PROGRAM...        (PEERS=folder: into that one)
#
# They run beside this project, to be measured and to be exchanged for its daemons; nothing of them is part of it. The first
# time takes minutes for each. runc needs gcc and libseccomp-dev.
set -euo pipefail
cd "$(dirname "$0")"
to=${PEERS:-$PWD/../../.hardway/peers}
mkdir -p "$to" && to=$(cd "$to" && pwd)
export GOWORK=off GOFLAGS=-mod=readonly

build() { # MODULE PROGRAM PACKAGE [FLAG...]
  [ -x "$to/$2" ] && [ "$to/$2" -nt "$1/go.mod" ] && return
  echo "peers: building $2"
  (cd "$1" && CGO_ENABLED=${cgo:-0} go build -trimpath -ldflags "-s -w ${stamp:-}" -o "$to/$2" "${@:4}" "$3")
}

# Kubernetes' programs say their version to the API, which others judge them by.
version=$(sed -n 's/^require k8s.io\/kubernetes //p' kubernetes/go.mod)
minor=${version#v1.}
kubernetes() { # PROGRAM
  local package stamp=''
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
  done
  build kubernetes "$1" "k8s.io/kubernetes/cmd/$1"
}

for program in "$@"; do
  case $program in
    kube* ) kubernetes "$program" ;;
    etcd) build etcd etcd go.etcd.io/etcd/server/v3 ;;
    coredns) build coredns coredns github.com/coredns/coredns ;;
    containerd | containerd-shim-runc-v2 | ctr) build containerd "$program" "github.com/containerd/containerd/v2/cmd/$program" ;;
    runc) cgo=1 build runc runc github.com/opencontainers/runc -tags seccomp ;;
    bridge | loopback) build cni "$program" "github.com/containernetworking/plugins/plugins/main/$program" ;;
    host-local) build cni host-local github.com/containernetworking/plugins/plugins/ipam/host-local ;;
    portmap) build cni portmap github.com/containernetworking/plugins/plugins/meta/portmap ;;
    *) echo "peers: there is no $program" >&2; exit 2 ;;
  esac
done
