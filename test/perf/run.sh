#!/usr/bin/env bash
# make bench: measures this project beside upstream and writes docs/benchmarks.md.
#
#   run.sh [AREA]      one area (dns, apiserver, scheduler, controllers), or all; RUNS=n runs of each side (default 3)
#
# Upstream's programs are built once, by test/peers/build.sh. The cluster that is up is used, or one is brought up.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD dir=$PWD/.hardway/bench peers=$PWD/.hardway/peers
mkdir -p "$dir"
command -v dnsperf >/dev/null || { [ "$(id -u)" = 0 ] && apt-get -qq install -y dnsperf >/dev/null; }
# The areas scheduler and controllers have an API server of their own.
[ -x .hardway/bin/hardway-apiserver ] && { [[ ${1:-} =~ ^(scheduler|controllers)$ ]] || [ -f .hardway/admin.kubeconfig ]; } || { make build && scripts/up.sh; }
(cd test && go build -trimpath -o "$dir/perf" ./perf)
for area in ${1:-dns apiserver scheduler controllers}; do
  case $area in
    dns) programs=(coredns) ;;
    apiserver) programs=(etcd kube-apiserver) ;;
    scheduler) programs=(kube-scheduler) ;;
    controllers) programs=(kube-controller-manager) ;;
  esac
  test/peers/build.sh "${programs[@]}"
  "$dir/perf" -area "$area" -bin "$root/.hardway/bin" -peers "$peers" -kubeconfig "$root/.hardway/admin.kubeconfig" -results "$dir/results" \
    -runs "${RUNS:-3}" -page "$root/docs/benchmarks.md"
done
