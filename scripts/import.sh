#!/usr/bin/env bash
# Brings image archives ("docker save" or OCI layout in a tar) into every node of this checkout's cluster.
#
#   import.sh ARCHIVE...
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root import
[ $# -gt 0 ] || fail 'which? make import IMAGES="a.tar b.tar"'
for archive in "$@"; do
  [ -f "$archive" ] || fail "$archive: no such file"
done
# Every node has a store of its own: a node agent that clears away what its pods do not use must not clear for others.
importing=()
for name in node $(further_nodes); do
  "$bin/hardway-nodeagent" image import --image-dir "$state/$name/images" "$@" &
  importing+=($!)
done
for pid in "${importing[@]}"; do wait "$pid"; done
