#!/usr/bin/env bash
# Runs the interop tests:  run.sh [TEST REGEXP]
#
# Upstream's programs are built once, into .hardway/bench/peers, as for make bench. MINUTES=10 is how long upstream's daemons run.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=${PEERS:-$PWD/.hardway/bench/peers} bin=${BIN:-$PWD/.hardway/bin}
mkdir -p "$peers"
peer() { # MODULE PROGRAM PACKAGE
  [ -x "$peers/$2" ] && return
  echo "interop: building upstream's $2"
  (cd "test/perf/peers/$1" && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$peers/$2" "$3")
}
peer etcd etcd go.etcd.io/etcd/server/v3
for d in kube-apiserver kube-scheduler kube-controller-manager; do peer kubernetes $d k8s.io/kubernetes/cmd/$d; done
[ -x "$bin/hardway-apiserver" ] || make build
cd test && PEERS=$peers BIN=$bin go test -tags interop -count=1 -v -timeout 1h -run "${1:-.}" ./interop
