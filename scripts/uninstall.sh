#!/usr/bin/env bash
# Takes Hardway off this machine: daemons, pods, network, units, programs, settings.
#
#   uninstall.sh [--dry-run] [--data]
#
#   --data   also etcd's data, images, volumes of pods and logs; without it they stay
#
# Drain a node first ('kubectl drain'), and remove a member from etcd first ('etcdctl member remove').
set -euo pipefail
. "$(dirname "$0")/machine.sh"
data=''
while [ $# -gt 0 ]; do
  case $1 in --dry-run) dry_run=yes ;; --data) data=yes ;; *) usage ;; esac
  shift
done
need_root

explain "Stop the daemons"
mapfile -t units < <(cd /etc/systemd/system && ls -d hardway-*.service hardway-*.target 2>/dev/null)
[ ${#units[@]} = 0 ] || run systemctl disable --quiet --now "${units[@]}"

explain "End the pods: they outlive the node agent"
for round in TERM KILL; do
  pids=$(find /sys/fs/cgroup/hardway /sys/fs/cgroup/*/hardway -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
  [ "$round" = TERM ] || pids+=" $(pgrep -x hardway-supervi || true)"
  [ -z "${pids// /}" ] || { run kill -$round $pids || true; sleep 1; }
done
awk '{print $5}' /proc/self/mountinfo | tac | while read -r point; do
  case $point in /var/lib/kubelet/* | /var/lib/hardway/* | /run/hardway/*) run umount -l "$point" ;; esac
done
find /sys/fs/cgroup/hardway /sys/fs/cgroup/*/hardway -depth -type d -exec rmdir {} + 2>/dev/null || true

explain "Network"
if command -v hardway-netproxy >/dev/null; then run hardway-netproxy --cleanup; fi
if command -v nft >/dev/null; then
  nft list tables 2>/dev/null | grep -w 'hardway[a-z-]*' | while read -r _ family table; do run nft delete table "$family" "$table"; done
fi
ip -o link | awk -F': ' '{sub("@.*", "", $2); if ($2 ~ /^hw/) print $2}' | while read -r link; do run ip link delete "$link" || true; done

explain "Files"
run rm -rf /run/hardway "$etc"
[ ${#units[@]} = 0 ] || (cd /etc/systemd/system && run rm -f "${units[@]}")
run rm -f /etc/sysusers.d/hardway.conf /etc/tmpfiles.d/hardway.conf /etc/nginx/sites-{available,enabled}/kubernetes.default.svc.cluster.local
run rm -f /usr/local/bin/hardway-{apiserver,controllers,scheduler,nodeagent,supervisor,netproxy,dns}
run systemctl daemon-reload
[ -z "$data" ] || run rm -rf /var/lib/hardway /var/lib/kubelet /var/log/pods /var/log/containers
