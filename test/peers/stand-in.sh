#!/usr/bin/env bash
# Stands in for one of this project's daemons with upstream's program for the same work.
#
# Links named hardway-DAEMON lead here, in a folder that HARDWAY_BIN names (bin.sh makes it); scripts/up.sh starts them as it
# would the daemon, with the same flags, which are upstream's already. What only this project has is left out here, and what
# upstream has in other programs is started beside: etcd, containerd, plugins for the pods' network, DNS's Service.
#
#   PEERS            folder of upstream's programs
#   HARDWAY_STATE    the cluster's folder
set -euo pipefail
self=$0 name=$(basename "$0") args=("$@")
name=${name#hardway-}
beside=$HARDWAY_STATE/beside
mkdir -p "$beside"
kubectl() { "$(dirname "$self")/kubectl" --kubeconfig "$HARDWAY_STATE/admin.kubeconfig" "$@"; }

flag() { # NAME: its value
  local a
  for a in "${args[@]}"; do [[ $a != --$1=* ]] || echo "${a#*=}"; done
}

without() { # NAME...: takes flags out
  local a n kept=()
  for a in "${args[@]}"; do
    for n in "$@"; do [[ $a != --$n=* ]] || continue 2; done
    kept+=("$a")
  done
  args=("${kept[@]}")
}

# company runs what the daemon needs in the background, until the daemon ends.
company() { # NAME COMMAND...
  local log=$HARDWAY_STATE/log/$1.log
  shift
  setpriv --pdeathsig KILL -- "$@" >>"$log" 2>&1 </dev/null &
}

# soon repeats a command in the background until it succeeds.
soon() { # COMMAND...
  (until "$@" >/dev/null 2>&1; do sleep 0.2; done) </dev/null >/dev/null 2>&1 &
}

become() { exec -a "$self" "$PEERS/$1" "${args[@]}"; } # PROGRAM

# added writes a daemon's configuration with further lines, and names it in its flags.
added() { # LINES from standard input
  local from
  from=$(flag config)
  { cat "$from" && cat; } >"$beside/$(basename "$from")"
  without config
  args+=(--config="$beside/$(basename "$from")")
}

start_containerd() { # ROOT
  mkdir -p "$beside/containerd" "$beside/cni"
  cat >"$beside/containerd.toml" <<END
version = 3
root = "$beside/containerd/root"
state = "$beside/containerd/run"
[grpc]
  address = "$beside/containerd.sock"
[ttrpc]
  address = "$beside/containerd.sock.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "hardway.test/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  cni = {bin_dirs = ["$PEERS"], conf_dir = "$beside/cni"}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  options = {BinaryName = "$PEERS/runc", SystemdCgroup = false}
END
  PATH=$PEERS:$PATH company containerd "$PEERS/containerd" --config "$beside/containerd.toml" --log-level warn
  until ctr version >/dev/null 2>&1; do sleep 0.05; done
  "$(dirname "$(readlink -f "$0")")/pause.sh" "$beside/pause.tar"
  import "$beside/pause.tar"
  [ ! -f "$beside/images" ] || xargs -a "$beside/images" -d '\n' -n 1 "$0" image import
}
ctr() { "$PEERS/ctr" -a "$beside/containerd.sock" -n k8s.io "$@"; }
import() { ctr images import --no-unpack=false "$1" >>"$HARDWAY_STATE/log/import.log" 2>&1; }

# pods_network tells containerd how pods get addresses once the node has been given a range of them.
pods_network() { # NODE
  local range
  range=$(kubectl get node "$1" -o 'jsonpath={.spec.podCIDR}') && [ -n "$range" ] || return 1
  # Written in its place: containerd does not notice a file that is moved there.
  cat >"$beside/cni/pods.conflist" <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "hwpeer0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$beside/addresses", "ranges": [[{"subnet": "$range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
}

publish_dns() { # ADDRESS CLUSTER-ADDRESS
  kubectl apply -f - <<END
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: $2
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-peer, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [$1], conditions: {ready: true}}]
END
}

case $name in
  apiserver)
    company etcd "$PEERS/etcd" --name=peer --data-dir="$(flag etcd-data-dir)" --log-level=warn --listen-client-urls=http://127.0.0.1:2379 \
      --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
      --initial-cluster=peer=http://127.0.0.1:2380
    without etcd-data-dir
    args+=(--etcd-servers=http://127.0.0.1:2379 --kubelet-preferred-address-types=InternalIP)
    "$(dirname "$(readlink -f "$0")")/../../.hardway/bin/hardway-apiserver" roles >"$beside/roles.yaml"
    soon kubectl apply --server-side -f "$beside/roles.yaml"
    become kube-apiserver
    ;;
  controllers)
    without volume-scrub-image
    args+=(--use-service-account-credentials)
    become kube-controller-manager
    ;;
  scheduler) become kube-scheduler ;;
  nodeagent)
    if [ "${1:-}" = image ]; then # import [--image-dir DIR] ARCHIVE...
      shift 2
      [ "${1:-}" != --image-dir ] || shift 2
      for archive in "$@"; do
        if [ -S "$beside/containerd.sock" ]; then import "$archive"; else echo "$archive" >>"$beside/images"; fi
      done
      exit
    fi
    group=$(sed -n 's/^cgroupRoot: \///p' "$(flag config)")
    if [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then
      for hierarchy in /sys/fs/cgroup/*/; do mkdir -p "$hierarchy$group"; done
      for file in cpus mems; do cat "/sys/fs/cgroup/cpuset/cpuset.$file" >"/sys/fs/cgroup/cpuset/$group/cpuset.$file"; done # an empty one takes no process
    fi
    start_containerd
    soon pods_network "$(flag hostname-override)"
    added <<END
containerRuntimeEndpoint: unix://$beside/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
END
    without image-dir state-dir cluster-cidr
    args+=(--cert-dir="$beside/kubelet")
    become kubelet
    ;;
  netproxy)
    if [ "${1:-}" != --cleanup ]; then
      added <<END
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
      without ingress-kubeconfig ingress-http-address ingress-https-address
    fi
    become kube-proxy
    ;;
  dns)
    cat >"$beside/Corefile" <<END
.:53 {
    bind $(flag node-ip)
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $(flag kubeconfig)
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    cache 30
}
END
    soon publish_dns "$(flag node-ip)" "$(flag cluster-dns)"
    args=(-conf "$beside/Corefile")
    become coredns
    ;;
  *) echo "stand-in: nobody stands in for $name" >&2; exit 2 ;;
esac
