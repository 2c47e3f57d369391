#!/usr/bin/env bash
# Puts the data of a backup in place of this controller's, as a new etcd cluster. For a cluster of several controllers run
# it on each, with the same file, before any is started again.
#
#   restore.sh [--dry-run] FILE.tar.gz
#
# The machine is a controller already (install-controller.sh, with the certificates of the backup: they are in it, in
# etc-hardway/pki). What was there stays in /var/lib/hardway/etcd.<time>. Revisions go on from far above those of the
# backup, and history is marked as compacted: whoever watched the old cluster is told to list anew.
set -euo pipefail
. "$(dirname "$0")/machine.sh"
file=''
while [ $# -gt 0 ]; do
  case $1 in --dry-run) dry_run=yes ;; -*) usage ;; *) file=$1 ;; esac
  shift
done
[ -f "$file" ] || usage
need_root
PATH=$here/bin:$PATH
flags=$(kept ETCD_FLAGS controller.env)
flag() { sed -n "s/.*--$1=\([^ ]*\).*/\1/p" <<<"$flags"; }
data=$(flag etcd-data-dir)
[ -n "$data" ] || fail "$etc/controller.env names no etcd data folder: is this a controller with a member inside?"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run tar -C "$work" -xzf "$file"
explain "Stop the control plane of this machine"
run systemctl stop hardway-scheduler hardway-controllers hardway-apiserver
explain "The new member"
run etcdutl snapshot restore "$work/etcd.db" --data-dir "$work/new" --name "$(flag etcd-name)" \
  --initial-cluster "$(flag etcd-initial-cluster)" --initial-cluster-token "$(flag etcd-initial-cluster-token)" \
  --initial-advertise-peer-urls "$(flag etcd-initial-advertise-peer-urls)" --bump-revision 1000000000 --mark-compacted
[ ! -d "$data/member" ] || run mv "$data/member" "$data.$(date +%Y%m%d-%H%M%S)"
run mv "$work/new/member" "$data/member"
run chown -R hardway-apiserver:hardway-apiserver "$data"
explain "Start it when all members are restored: systemctl start hardway-controller.target hardway-apiserver hardway-controllers hardway-scheduler"
