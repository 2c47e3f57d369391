#!/usr/bin/env bash
# Takes down a cluster in which upstream's programs stand in for some daemons: HARDWAY_STATE and HARDWAY_BIN say which.
set -euo pipefail
cd "$(dirname "$0")/../.."
"$HARDWAY_BIN/kubectl" --kubeconfig "$HARDWAY_STATE/admin.kubeconfig" delete pods --all --all-namespaces --force --wait=false >/dev/null 2>&1 || true
status=0
scripts/down.sh || status=$?
# containerd's shims outlive it, as they should.
for proc in /proc/[0-9]*; do
  if tr '\0' ' ' <"$proc/cmdline" 2>/dev/null | grep -q "^[^ ]*containerd-shim-runc-v2 .*$HARDWAY_STATE/"; then kill -9 "${proc#/proc/}" 2>/dev/null || true; fi
done
[ ! -d "$HARDWAY_STATE/beside" ] || scripts/down.sh >/dev/null || status=$?
ip link delete hwpeer0 2>/dev/null || true
exit $status
