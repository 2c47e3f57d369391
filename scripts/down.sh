#!/usr/bin/env bash
# Stops the cluster of this checkout and removes what it made outside of .hardway: pods, mounts, links, nftables tables,
# cgroups, and kernel settings are put back. Certificates and the data in etcd stay; the next 'make up' goes on with them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$root/scripts/clear.sh"
need_root down
keep_going=yes failed=''

stop_all() {
  local i name
  for name in $(further_nodes); do
    for i in dns netproxy nodeagent; do stop_daemon "$i@$name"; done
  done
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do stop_daemon "${daemons[$i]}"; done
}

remove_pods() {
  local name
  end_pods $cgroup "$node_state"
  for name in $(further_nodes); do end_pods "$cgroup-$name" "$node_state/nodes/$name"; done
}

# A $node_state that somebody has mounted stays, empty: removing the folder below it would take it from other mount
# namespaces, too.
remove_mounts() {
  unmount_below "$state" "$node_state"
  find "$node_state" -mindepth 1 -delete 2>/dev/null || true
  rmdir "$node_state" 2>/dev/null || [ ! -e "$node_state" ] || mountpoint -q "$node_state"
}

remove_links() {
  local link
  ip -o link | awk -F': ' '{sub("@.*", "", $2); if ($2 ~ /^hw/) print $2}' | while read -r link; do
    ip link delete "$link" 2>/dev/null || ! ip link show "$link" >/dev/null 2>&1 || exit 1
  done
}

remove_cgroups() {
  local name
  remove_cgroup $cgroup
  for name in $(further_nodes); do remove_cgroup "$cgroup-$name"; done
}

remove_rules() {
  [ ! -x "$bin/hardway-netproxy" ] || "$bin/hardway-netproxy" --cleanup
  # The pods' table has no program of its own that removes it.
  [ ! -x "$build/build/leftovers" ] || "$build/build/leftovers" -remove-tables
}

put_back_settings() {
  [ ! -f "$conf/sysctl" ] || { sysctl -q -p "$conf/sysctl" && rm "$conf/sysctl"; }
}

leftovers() {
  [ ! -x "$build/build/leftovers" ] || "$build/build/leftovers" "$build" "$state"
}

step "stop the daemons" stop_all
case $(owner) in
  "" | "$state") ;;
  *) fail "pods, links and rules on this machine belong to the cluster of $(owner): they stay" ;;
esac
step "end the pods" remove_pods
step "unmount" remove_mounts
step "remove links" remove_links
step "remove cgroups" remove_cgroups
step "remove rules" remove_rules
step "kernel settings" put_back_settings
step "nothing left" leftovers
[ -z "$failed" ]
