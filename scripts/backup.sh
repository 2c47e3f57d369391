#!/usr/bin/env bash
# Backs up a cluster: a snapshot of etcd, with what is needed to use it (certificates, keys, encryption config), in one
# archive. Run it on a controller. The archive holds every secret of the cluster: keep it as you keep the CA's key.
#
#   backup.sh [--dry-run] FILE.tar.gz
set -euo pipefail
. "$(dirname "$0")/machine.sh"
file=''
while [ $# -gt 0 ]; do
  case $1 in --dry-run) dry_run=yes ;; -*) usage ;; *) file=$1 ;; esac
  shift
done
[ -n "$file" ] || usage
need_root
PATH=$here/bin:$PATH
[ "${file#/}" != "$file" ] || file=$PWD/$file

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
explain "A consistent snapshot from the etcd member of this machine"
run etcdctl snapshot save "$work/etcd.db" --endpoints=https://127.0.0.1:2379 --cacert="$etc/pki/ca.pem" \
  --cert="$etc/pki/kubernetes.pem" --key="$etc/pki/kubernetes-key.pem"
run etcdutl snapshot status "$work/etcd.db"
explain "Beside it the certificates and settings of this machine"
run cp -a "$etc" "$work/etc-hardway"
(umask 077 && run tar -C "$work" -czf "$file" .)
