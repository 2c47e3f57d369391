#!/usr/bin/env bash
# make bench: measures this project beside upstream and writes docs/benchmarks.md.
#
#   run.sh [AREA]      one area (dns, apiserver, scheduler, controllers), or all; RUNS=n runs of each side (default 3)
#
# Upstream's programs are built once, from their published modules, into .hardway/bench/peers. The cluster that is up is used, or one is brought up.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD dir=$PWD/.hardway/bench
mkdir -p "$dir/peers"
peer() { # MODULE PROGRAM PACKAGE
  [ -x "$dir/peers/$2" ] && [ "$dir/peers/$2" -nt "test/perf/peers/$1/go.mod" ] && return
  echo "bench: building upstream's $2"
  (cd "test/perf/peers/$1" && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/peers/$2" "$3")
}
command -v dnsperf >/dev/null || { [ "$(id -u)" = 0 ] && apt-get -qq install -y dnsperf >/dev/null; }
# The areas scheduler and controllers have an API server of their own.
[ -x .hardway/bin/hardway-apiserver ] && { [[ ${1:-} =~ ^(scheduler|controllers)$ ]] || [ -f .hardway/admin.kubeconfig ]; } || { make build && scripts/up.sh; }
(cd test && go build -trimpath -o "$dir/perf" ./perf)
for area in ${1:-dns apiserver scheduler controllers}; do
  case $area in
    dns) peer coredns coredns github.com/coredns/coredns ;;
    apiserver)
      peer etcd etcd go.etcd.io/etcd/server/v3
      peer kubernetes kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver ;;
    scheduler) peer kubernetes kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler ;;
    controllers) peer kubernetes kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager ;;
  esac
  "$dir/perf" -area "$area" -bin "$root/.hardway/bin" -peers "$dir/peers" -kubeconfig "$root/.hardway/admin.kubeconfig" -results "$dir/results" \
    -runs "${RUNS:-3}" -page "$root/docs/benchmarks.md"
done
