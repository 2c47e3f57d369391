#!/usr/bin/env bash
# make conformance: builds upstream's suite, brings up a cluster of two nodes, runs the tests, says what passed.
#
#   run.sh [FOCUS]      FOCUS is a regular expression on names of tests; without it the whole suite runs, and docs/conformance.md is written anew
#
#   AREA=network/dns    only the tests of an area, or of all areas below it      PARALLEL=n    tests at a time (default 2)
#   SKIP=regex          leave tests out                                          LIMIT=15m     time for each test
#   KUBECONFIG=file     test that cluster, as it is, instead of one of this checkout's
#
# A cluster that is up is used, a cluster that is brought up for this stays up: 'make down' stops it. Reports: .hardway/conformance/out.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD dir=$PWD/.hardway/conformance
test/conformance/build.sh "$dir"
(cd test && go build -trimpath -o "$dir/conformance" ./conformance)
kubectl=${KUBECTL:-$root/.hardway/bin/kubectl}
if [ -z "${KUBECONFIG:-}" ]; then
  scripts/deps.sh
  make build
  NODES=2 scripts/up.sh
  scripts/import.sh "$dir"/images/*.tar
  export KUBECONFIG=$root/.hardway/admin.kubeconfig
fi
args=(-program "$dir/e2e.test" -kubectl "$kubectl" -kubeconfig "$KUBECONFIG" -out "$dir/out" -parallel "${PARALLEL:-2}" -limit "${LIMIT:-15m}"
  -title "Kubernetes $(sed -n 's/^const Kubernetes = "\(.*\)"/\1/p' shared/version/version.go) conformance on Hardway $(git describe --tags --always --dirty 2>/dev/null || echo unknown)")
if [ -n "${1:-}" ]; then args+=(-focus "$1"); fi
if [ -n "${AREA:-}" ]; then args+=(-area "$AREA"); fi
if [ -n "${SKIP:-}" ]; then args+=(-skip "$SKIP"); fi
exec "$dir/conformance" "${args[@]}" -page "$root/docs/conformance.md"
