#!/usr/bin/env bash
# make bench: measures this project beside upstream and writes docs/benchmarks.md.
#
#   run.sh [AREA]      one area (dns, apiserver, scheduler, controllers, cluster, proxy), or all; RUNS=n runs of each side (default 3)
#
# The figures are kept in test/perf/results, one file for each area, and the page is written from all of them. Upstream's programs are built once, by test/peers/build.sh. The areas dns and apiserver use the cluster that is up, or bring one up; the area cluster
# brings up its own, one after the other, and wants none to be there.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD dir=$PWD/.hardway/bench peers=$PWD/.hardway/peers
mkdir -p "$dir"
for tool in dnsperf iptables; do command -v $tool >/dev/null || apt-get -qq install -y $tool >/dev/null; done # to ask, and for kube-proxy
[ -x .hardway/bin/hardway-apiserver ] || make build
(cd test && go build -trimpath -o "$dir/perf" ./perf)
for area in ${1:-cluster scheduler controllers proxy dns apiserver}; do
  case $area in
    cluster) programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns containerd containerd-shim-runc-v2 ctr runc
      bridge loopback host-local portmap) ;;
    dns) programs=(coredns) && scripts/up.sh ;;
    apiserver) programs=(etcd kube-apiserver) && scripts/up.sh ;;
    scheduler) programs=(kube-scheduler) ;;
    proxy) programs=(kube-proxy) ;;
    controllers) programs=(kube-controller-manager) ;;
  esac
  test/peers/build.sh "${programs[@]}"
  enter=()
  [ "$area" != proxy ] || enter=(unshare --net test/perf/loopback.sh)
  "${enter[@]}" "$dir/perf" -area "$area" -bin "$root/.hardway/bin" -peers "$peers" -kubeconfig "$root/.hardway/admin.kubeconfig" -results "$root/test/perf/results" \
    -runs "${RUNS:-3}" -page "$root/docs/benchmarks.md"
done
