#!/usr/bin/env bash
# Brings the daemons of this machine to the version of this tarball, one after the other, and back again.
#
#   upgrade.sh [--dry-run]             every daemon that is installed here
#   upgrade.sh [--dry-run] rollback    the programs and units from before the last upgrade
#
# A daemon counts as upgraded when it has said that it is ready and has not ended in the five seconds after; if not, its old
# program and unit come back and the upgrade stops there. Pods go on meanwhile, on controllers clients use the other API
# servers: upgrade controllers first, one machine after the other, then workers. What was replaced stays in
# /var/lib/hardway-previous. (With Debian packages apt does this: 'apt-get install ./hardway-*.deb'.)
set -euo pipefail
. "$(dirname "$0")/machine.sh"
previous=/var/lib/hardway-previous action=upgrade
while [ $# -gt 0 ]; do
  case $1 in --dry-run) dry_run=yes ;; rollback) action=rollback ;; *) usage ;; esac
  shift
done
need_root
steady=5 # seconds

# files_of prints what belongs to a daemon: where it lies in the tarball or in the store of old ones, and where it is installed.
files_of() { # UNIT
  echo "bin/$1 /usr/local/bin/$1"
  echo "systemd/$1.service /etc/systemd/system/$1.service"
  case $1 in
    hardway-nodeagent) echo "bin/hardway-supervisor /usr/local/bin/hardway-supervisor" ;; # of new pods; old ones keep theirs
    hardway-apiserver) for tool in kubectl etcdctl etcdutl; do echo "bin/$tool /usr/local/bin/$tool"; done ;;
  esac
}

# bring installs the files of a daemon from a folder.
bring() { # UNIT FOLDER
  local from to mode
  while read -r from to; do
    [ -f "$2/$from" ] || continue
    case $from in bin/*) mode=0755 ;; *) mode=0644 ;; esac
    place "$2/$from" "$to" root $mode
  done < <(files_of "$1")
}

# differs tells whether a folder holds anything else for a daemon than what is installed.
differs() { # UNIT FOLDER
  local from to
  while read -r from to; do
    [ ! -f "$2/$from" ] || cmp -s "$2/$from" "$to" || return 0
  done < <(files_of "$1")
  return 1
}

keep() { # UNIT
  local from to
  while read -r from to; do
    [ -f "$to" ] || continue
    run mkdir -p "$previous/$(dirname "$from")"
    run cp -p "$to" "$previous/$from"
  done < <(files_of "$1")
}

# restart restarts a daemon and fails unless it becomes ready and stays so.
restart() { # UNIT
  run systemctl daemon-reload
  run systemctl reset-failed "$1"
  run systemctl restart "$1" || return 1
  [ -z "$dry_run" ] || return 0
  sleep $steady
  [ "$(systemctl show -p ActiveState --value "$1") $(systemctl show -p NRestarts --value "$1")" = "active 0" ]
}

for unit in hardway-apiserver hardway-controllers hardway-scheduler hardway-nodeagent hardway-netproxy hardway-dns; do
  systemctl -q is-enabled "$unit" 2>/dev/null || continue
  source=$here
  if [ $action = rollback ]; then
    source=$previous
    [ -f "$previous/bin/$unit" ] || continue
  fi
  if ! differs "$unit" "$source"; then
    explain "$unit is the same already"
    continue
  fi
  explain "$unit: $("$unit" --version) to $("$source/bin/$unit" --version)"
  [ $action = rollback ] || keep "$unit"
  bring "$unit" "$source"
  if ! restart "$unit"; then
    [ $action = upgrade ] || fail "$unit does not run: journalctl -u $unit"
    bring "$unit" "$previous"
    restart "$unit" || fail "$unit runs neither in its new version nor in the old one: journalctl -u $unit"
    fail "the new $unit did not come up, the old one runs again: journalctl -u $unit"
  fi
done
