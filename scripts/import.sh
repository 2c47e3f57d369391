#!/usr/bin/env bash
# Brings image archives ("docker save" or OCI layout in a tar) into the node of this checkout's cluster.
#
#   import.sh ARCHIVE...
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root import
[ $# -gt 0 ] || fail 'which? make import IMAGES="a.tar b.tar"'
for archive in "$@"; do
  [ -f "$archive" ] || fail "$archive: no such file"
done
"$bin/hardway-nodeagent" image import --image-dir "$image_store" "$@"
