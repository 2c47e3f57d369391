#!/usr/bin/env bash
# Stops the cluster of this checkout and removes what it made outside of .hardway: pods, mounts, links, nftables tables,
# cgroups, and kernel settings are put back. Certificates and the data in etcd stay; the next 'make up' goes on with them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root down
keep_going=yes failed=''

stop_all() {
  local i
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do stop_daemon "${daemons[$i]}"; done
}

# in_cgroups prints the processes in the pods' cgroups, of every hierarchy.
in_cgroups() {
  find /sys/fs/cgroup/$cgroup /sys/fs/cgroup/*/$cgroup -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un
}

# supervisors prints the pods' supervisors: programs from this checkout that the node agent has started.
supervisors() {
  local proc exe
  for proc in /proc/[0-9]*; do
    exe=$(readlink "$proc/exe" 2>/dev/null) || continue
    case ${exe% (deleted)} in "$bin/hardway-supervisor" | "$bin/hardway-nodeagent") echo "${proc#/proc/}" ;; esac
  done
}

# end_all sends a signal to processes and waits for them, up to 5 s.
end_all() { # SIGNAL PID...
  local signal=$1 pid end=$((SECONDS + 5))
  shift
  for pid in "$@"; do kill -"$signal" "$pid" 2>/dev/null || true; done
  for pid in "$@"; do gone "$pid" $((end > SECONDS ? end - SECONDS : 0)) || true; done
}

# Containers survive the node agent by design, so they are ended here: those that obey SIGTERM in peace.
remove_pods() {
  local keepers pid inside=()
  keepers=$(supervisors)
  for pid in $(in_cgroups); do
    grep -qx "$pid" <<<"$keepers" || inside+=("$pid")
  done
  end_all TERM ${inside[@]+"${inside[@]}"}
  # shellcheck disable=SC2046 # numbers
  end_all KILL $(in_cgroups) $keepers
  [ -z "$(in_cgroups)$(supervisors)" ] || { echo "these do not die: $(in_cgroups) $(supervisors)"; return 1; }
}

# remove_mounts unmounts everything below our folders, the innermost first. A $node_state that somebody has mounted stays,
# empty: removing the folder below it would take it from other mount namespaces, too.
remove_mounts() {
  local point
  awk '{print $5}' /proc/self/mountinfo | tac | while read -r point; do
    case $point in
      "$state"/* | "$node_state"/*) umount -l "$(printf '%b' "$point")" || exit 1 ;;
    esac
  done
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
  find /sys/fs/cgroup/$cgroup /sys/fs/cgroup/*/$cgroup -depth -type d -exec rmdir {} + 2>/dev/null || true
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
