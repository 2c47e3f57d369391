#!/usr/bin/env bash
# make interop: runs upstream's programs with this project's, one exchanged for the other:  run.sh [TEST REGEXP]
#
# As root, on a machine on which no cluster runs. Upstream's programs are built once, by test/peers/build.sh. MINUTES=10 is how long upstream's
# daemons run in TestUpstreamDaemons.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=${PEERS:-$PWD/.hardway/peers} bin=${BIN:-$PWD/.hardway/bin}
PEERS=$peers test/peers/build.sh etcd kube-apiserver kube-scheduler kube-controller-manager kubelet kube-proxy coredns containerd containerd-shim-runc-v2 ctr \
  runc bridge loopback host-local portmap
[ -x "$bin/hardway-apiserver" ] || make build
cd test && PEERS=$peers BIN=$bin go test -tags interop -count=1 -v -timeout 1h -run "${1:-.}" ./interop
