#!/usr/bin/env bash
# Brings up a cluster on this machine: installs and builds what is missing, makes certificates, starts the daemons,
# deploys the sample, and says how to reach it. Run again, it starts what is down or was built anew and keeps the rest.
#
#   sudo make up [NODES=n]     (V=1: show what each step prints)
#
# NODES=n makes a cluster of n nodes: this machine, and n-1 network namespaces of it (nodes.sh). Without it there are as
# many as last time, at first one.
#
# Everything lies in .hardway/ of the checkout; the daemons are watched by supervise.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root up
had=$(further_nodes | wc -l) && had=$((had + 1))
nodes=${NODES:-$had}
[[ $nodes =~ ^[1-9][0-9]?$ ]] || fail "NODES=$nodes: a number from 1 to 99 is wanted"

certificates() {
  local name server=https://127.0.0.1:6443 of=() to=()
  for name in "${names[@]}"; do
    at "$name"
    of+=(--node "$name=$at_ip") to+=(--node "$name")
  done
  [ "$node_ip" = "$machine_ip" ] || of+=(--address "$machine_ip")
  [ "$nodes" = 1 ] || server=https://$node_ip:6443
  "$root/scripts/certs.sh" "${of[@]}" --address "$node_ip" "$pki"
  "$root/scripts/kubeconfigs.sh" --server "$server" "${to[@]}" "$pki" "$conf"
  "$root/scripts/encryption.sh" "$conf/encryption-config.yaml"
  cp -p "$conf/admin.kubeconfig" "$state/admin.kubeconfig"
  # Whoever called sudo may use the cluster without it.
  [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$state/admin.kubeconfig"
}

# Kernel settings that the daemons change for the whole machine; down.sh puts back what stood there before.
settings=(net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables)
remember_settings() {
  local s
  [ ! -f "$conf/sysctl" ] || return 0
  for s in "${settings[@]}"; do
    [ ! -e "/proc/sys/${s//.//}" ] || echo "$s=$(sysctl -n "$s")"
  done | put "$conf/sysctl"
}

import_sample() {
  local stamp=$conf/images.imported want
  want="$nodes: $(stat -c '%n %s %Y' "$build"/images/*.tar)"
  [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || return 0
  "$root/scripts/import.sh" "$build"/images/*.tar
  echo "$want" >"$stamp"
}

# check_ports refuses when something else serves where a daemon wants to.
check_ports() {
  local pair port holder
  for pair in 6443:apiserver 10250:nodeagent 10257:controllers 10259:scheduler 10249:netproxy 10256:netproxy; do
    port=${pair%:*}
    ! find_daemon "${pair#*:}" || continue
    holder=$(ss -Hltnp "sport = :$port" | sed -n 's/.*users:((\(.*\)))/\1/p;q')
    [ -z "$holder" ] ||
      fail "port $port, wanted by ${pair#*:}, is in use by $holder. Another cluster? 'sudo make down' in its checkout ends it"
  done
}

# current tells whether a daemon runs with these arguments from the program that is on disk now.
current() { # NAME ARGUMENT...
  local pid words want=("${@:2}")
  find_supervisor "$1" && find_daemon "$1" || return 1
  [ "/proc/$pid/exe" -ef "$bin/hardway-${1%@*}" ] && command_of "$pid" && [ "${words[*]@Q}" = "${want[*]@Q}" ]
}

start() { # NAME...
  local name args
  for name in "$@"; do
    arguments "$name"
    ! current "$name" "${args[@]}" || continue
    stop_daemon "$name"
    "${enter[@]}" setsid "$root/scripts/supervise.sh" "$state" "$name" "${args[@]}" </dev/null >/dev/null 2>&1 &
  done
}

# wait_for repeats a command until it succeeds, at most 60 s and only while the daemon that it waits for is watched.
wait_for() { # DAEMON COMMAND...
  local daemon=$1 end=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ] || { ! find_supervisor "$daemon" && [ $SECONDS -gt $((end - 58)) ]; }; then
      echo "gave up; the end of $log/$daemon.log:"
      tail -n 15 "$log/$daemon.log" 2>/dev/null || true
      return 1
    fi
    sleep 0.02
  done
}

get() { # PATH of the API: as administrator
  curl -sf --max-time 5 --cacert "$pki/ca.pem" --cert "$pki/admin.pem" --key "$pki/admin-key.pem" "https://127.0.0.1:6443$1"
}
api_ready() { get /readyz; }
node_ready() { get "/api/v1/nodes/$1" | jq -e '.status.conditions[] | select(.type == "Ready" and .status == "True")'; }
kubectl() { "$bin/kubectl" --kubeconfig "$state/admin.kubeconfig" "$@"; }
sample_ip() { # nothing when its user has deleted it or scaled it to nothing
  [[ $(kubectl get deployment hello -o 'jsonpath={.spec.replicas}' 2>/dev/null) == [1-9]* ]] || return 0
  kubectl get service hello -o 'jsonpath={.spec.clusterIP}' 2>/dev/null
}
sample_answers() { curl -sf --max-time 1 "http://$1/" | grep -q '^hello'; }

deploy_sample() { # once in a cluster's life: whoever deletes it does not want it back
  [ ! -f "$conf/sample" ] || return 0
  kubectl apply -f "$root/examples/hello.yaml"
  touch "$conf/sample"
}

all_current() {
  local name args
  for name in "${wanted[@]}"; do
    arguments "$name"
    current "$name" "${args[@]}" || return 1
  done
}
start_control_plane() { start apiserver && wait_for apiserver api_ready; }
start_the_rest() { start "${wanted[@]:1}"; }
nodes_ready() {
  local name
  for name in "${names[@]}"; do
    at "$name"
    wait_for "nodeagent$at_suffix" node_ready "$name"
  done
}
remove_surplus() {
  local k
  for ((k = nodes + 1; k <= had; k++)); do remove_node "$k"; done
  echo "$nodes" >"$conf/nodes"
}
configurations() {
  local name
  for name in "${names[@]}"; do configuration "$name"; done
}
since() { seconds $(($(now) - begin)); }

whole=$(now)
step "packages and Go" "$root/scripts/deps.sh"
step "build (minutes, the first time)" make -C "$root" build
. "$root/scripts/daemons.sh"
. "$root/scripts/clear.sh"
. "$root/scripts/nodes.sh"
[ -n "$machine_ip" ] || fail "this machine has no IPv4 address. Without a network, give it one:
  ip link add lan0 type bridge && ip address add 10.0.0.1/24 dev lan0 && ip link set lan0 up"
mkdir -p "$conf" "$run" "$log" "$state/etcd" && chmod 700 "$conf" "$state/etcd"
case $(owner) in
  "" | "$state") mkdir -p -m 700 "$node_state" && echo "$state" >"$node_state/owner" ;;
  *) fail "the cluster of $(owner) is on this machine, and there can be one only. Take it down first:
  HARDWAY_STATE=$(owner) $root/scripts/down.sh" ;;
esac
names=("$node") wanted=("${daemons[@]}") # every node, every daemon
for ((k = 2; k <= nodes; k++)); do
  [ "$node" != "node$k" ] || fail "this machine is called $node, like the node that NODES=$nodes would make"
  names+=("node$k") wanted+=("nodeagent@node$k" "netproxy@node$k" "dns@node$k")
done
[ "$nodes" -lt "$had" ] || echo "$nodes" >"$conf/nodes" # before there is anything that 'make down' must find
check_ports
step "network of the nodes" make_machines
step "certificates, kubeconfigs, keys" certificates
step "configuration" configurations
remember_settings
step "images of the sample" import_sample

running=''
! all_current || running=yes
begin=$(now)
step "start the API server" start_control_plane
api=$(since)
[ "$nodes" -ge "$had" ] || step "remove nodes beyond $nodes" remove_surplus
step "start the other daemons" start_the_rest
step "deploy the sample" deploy_sample
if [ "$nodes" = 1 ]; then waiting="node $node Ready"; else waiting="$nodes nodes Ready"; fi
step "$waiting" nodes_ready
ready=$(since)
ip=$(sample_ip) || ip=''
if [ -n "$ip" ]; then
  step "sample reachable" wait_for netproxy sample_answers "$ip"
  reachable=", sample reachable after $(since) s"
fi
if [ -n "$running" ]; then
  times="Every daemon was running already."
else
  times="Counted from the start of the daemons: API ready after $api s, node Ready after $ready s${reachable:-}."
fi
cat <<END

Up after $(seconds $(($(now) - whole))) s. $times

  export KUBECONFIG=$state/admin.kubeconfig PATH=$bin:\$PATH
  kubectl get pods -A
${ip:+  curl http://$ip
}
END
