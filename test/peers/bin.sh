#!/usr/bin/env bash
# Makes a folder of programs for HARDWAY_BIN, in which upstream's stand in for some daemons:  bin.sh FOLDER DAEMON...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
to=$1
shift
mkdir -p "$to"
ln -sfn "$here"/../../.hardway/bin/* "$to/"
for daemon in "$@"; do ln -sfn "$here/stand-in.sh" "$to/hardway-$daemon"; done
