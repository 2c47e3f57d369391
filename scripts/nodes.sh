# Sourced by up.sh after daemons.sh and clear.sh: the further nodes of 'make up NODES=n', node2 to node<n>.
#
# Each is a network and a UTS namespace of this machine, pinned below $node_state/nodes/<name>, in which a node agent, a
# proxy and a DNS server run. The bridge hwlan is the wire between them and this machine, which is the first node and holds
# the control plane. The nodes see the machine's files and processes; kernel rules, routes, ports and pods are their own.
#
#   this machine                      node2                 node3
#   hwlan $lan.1/24 (bridge) ──┬── eth0 $lan.2/24     eth0 $lan.3/24
#                              └── veth hwlan2, hwlan3, ...

make_lan() {
  ip link show hwlan >/dev/null 2>&1 || ip link add hwlan type bridge
  ip address replace "$lan.1/24" dev hwlan
  ip link set hwlan up
  # The way out of the lab. Pods' own traffic has its node's address by then.
  nft -f - <<END
table ip hardway-lan
flush table ip hardway-lan
table ip hardway-lan {
  chain out {
    type nat hook postrouting priority srcnat
    ip saddr $lan.0/24 ip daddr != { $lan.0/24, $pod_range, $service_range } masquerade
  }
}
END
}

make_machine() { # K
  at "node$1"
  mkdir -p "$at_run"
  if ! "${enter[@]}" true 2>/dev/null; then
    touch "$at_run/net" "$at_run/uts"
    unshare --net="$at_run/net" --uts="$at_run/uts" hostname "$at_name"
  fi
  if ! "${enter[@]}" ip link show eth0 >/dev/null 2>&1; then
    ip link delete "hwlan$1" 2>/dev/null || true
    ip link add "hwlan$1" type veth peer name eth0 netns "$at_run/net"
  fi
  ip link set "hwlan$1" master hwlan up
  "${enter[@]}" ip link set lo up
  "${enter[@]}" ip address replace "$at_ip/24" dev eth0
  "${enter[@]}" ip link set eth0 up
  "${enter[@]}" ip route replace default via "$lan.1"
}

make_machines() {
  local k
  [ "$nodes" -gt 1 ] || return 0
  make_lan
  for ((k = 2; k <= nodes; k++)); do make_machine "$k"; done
}

# remove_node takes away a node that is no longer wanted, with its pods.
remove_node() { # K
  local daemon
  at "node$1"
  for daemon in dns netproxy nodeagent; do stop_daemon "$daemon$at_suffix"; done
  end_pods "$at_cgroup" "$at_run"
  kubectl delete pods --all-namespaces --field-selector "spec.nodeName=$at_name" --force --wait=false
  kubectl delete node "$at_name" --ignore-not-found
  unmount_below "$at_root" "$at_run"
  remove_cgroup "$at_cgroup"
  ip link delete "hwlan$1" 2>/dev/null || true
  rm -rf "$at_run" "${at_root:?}"
}
