# Sourced by up.sh after lib.sh: what each daemon is started with. Sets node and node_ip.

# node_address prints the address that this machine uses towards the world, or else its first global one.
node_address() {
  local found
  found=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p') || true
  [ -n "$found" ] || found=$(ip -4 -o address show scope global | awk '$2 !~ /^hw/ {sub("/.*", "", $4); print $4; exit}')
  echo "$found"
}

node=$(hostname | tr '[:upper:]' '[:lower:]')
machine_ip=$(node_address)
node_ip=$machine_ip
[ "$nodes" = 1 ] || node_ip=$lan.1

# at sets what differs from node to node: its name and address, where it keeps what, and how to enter it.
at() { # NODE
  at_name=$1 at_ip=$node_ip at_suffix='' at_root=$state/node at_run=$node_state at_cgroup=$cgroup at_logs=$log enter=()
  [ "$1" != "$node" ] || return 0
  at_ip=$lan.${1#node} at_suffix=@$1 at_root=$state/$1 at_run=$node_state/nodes/$1 at_cgroup=$cgroup-$1 at_logs=$log/$1
  enter=(nsenter --net="$at_run/net" --uts="$at_run/uts" --)
}

# put writes a file from standard input, all of it or nothing.
put() { cat >"$1.new" && mv "$1.new" "$1"; }

# configuration writes the config files of a node's daemons that take one.
configuration() { # NODE
  local resolv=/etc/resolv.conf
  at "$1"
  [ ! -f /run/systemd/resolve/resolv.conf ] || resolv=/run/systemd/resolve/resolv.conf # /etc's names 127.0.0.53
  put "$conf/nodeagent$at_suffix.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: $pki/ca.pem}
tlsCertFile: $pki/$at_name.pem
tlsPrivateKeyFile: $pki/$at_name-key.pem
clusterDomain: cluster.local
clusterDNS: [$cluster_dns]
resolvConf: $resolv
cgroupRoot: /$at_cgroup
podLogsDir: $at_logs/pods
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, nodefs.inodesFree: 2%, imagefs.available: 1Gi} # whoever tries this may have a full disk
END
  put "$conf/netproxy$at_suffix.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $conf/kube-proxy.kubeconfig}
clusterCIDR: $pod_range
hostnameOverride: $at_name
END
}

# arguments fills the array args with a daemon's command line. Flags are upstream's where upstream has the thing.
arguments() { # NAME[@NODE]
  case $1 in *@*) at "${1#*@}" ;; *) at "$node" ;; esac
  args=("$bin/hardway-${1%@*}")
  case ${1%@*} in
    apiserver) args+=(
      --advertise-address="$node_ip" --bind-address=0.0.0.0 --secure-port=6443
      --etcd-data-dir="$state/etcd" --encryption-provider-config="$conf/encryption-config.yaml"
      --client-ca-file="$pki/ca.pem" --tls-cert-file="$pki/kubernetes.pem" --tls-private-key-file="$pki/kubernetes-key.pem"
      --authorization-mode=Node,RBAC --enable-bootstrap-token-auth
      --service-account-key-file="$pki/service-account.pem" --service-account-signing-key-file="$pki/service-account-key.pem"
      --service-account-issuer=https://kubernetes.default.svc.cluster.local
      --service-cluster-ip-range="$service_range" --service-node-port-range=30000-32767
      --kubelet-certificate-authority="$pki/ca.pem" --kubelet-client-certificate="$pki/kube-apiserver-kubelet-client.pem"
      --kubelet-client-key="$pki/kube-apiserver-kubelet-client-key.pem") ;;
    controllers) args+=(
      --kubeconfig="$conf/kube-controller-manager.kubeconfig" --leader-elect
      --allocate-node-cidrs --cluster-cidr="$pod_range" --service-cluster-ip-range="$service_range"
      --root-ca-file="$pki/ca.pem" --cluster-signing-cert-file="$pki/ca.pem" --cluster-signing-key-file="$pki/ca-key.pem"
      --service-account-private-key-file="$pki/service-account-key.pem" --volume-scrub-image=busybox:1.35
      --client-ca-file="$pki/ca.pem" --tls-cert-file="$pki/kube-controller-manager.pem" --tls-private-key-file="$pki/kube-controller-manager-key.pem") ;;
    scheduler) args+=(
      --kubeconfig="$conf/kube-scheduler.kubeconfig" --leader-elect
      --client-ca-file="$pki/ca.pem" --tls-cert-file="$pki/kube-scheduler.pem" --tls-private-key-file="$pki/kube-scheduler-key.pem") ;;
    nodeagent) args+=(
      --config="$conf/nodeagent$at_suffix.yaml" --kubeconfig="$conf/$at_name.kubeconfig" --hostname-override="$at_name" --node-ip="$at_ip"
      --root-dir="$at_root" --image-dir="$at_root/images" --state-dir="$at_run" --cluster-cidr="$pod_range") ;;
    netproxy) args+=(
      --config="$conf/netproxy$at_suffix.yaml"
      --ingress-kubeconfig="$conf/hardway-ingress.kubeconfig" --ingress-http-address="$at_ip:80" --ingress-https-address="$at_ip:443") ;;
    dns) args+=(
      --kubeconfig="$conf/hardway-dns.kubeconfig" --hostname-override="$at_name" --node-ip="$at_ip" --cluster-dns="$cluster_dns") ;;
  esac
}
