#!/usr/bin/env bash
# Makes this machine a worker: node agent, service proxy, DNS server.
#
#   install-worker.sh --ip ADDRESS [options]
#
#   --ip ADDRESS        of this machine, as the others reach it
#   --name NAME         of the node (default: the host name)
#   --pod-range CIDR    addresses of pods (default 10.200.0.0/16)
#   --cluster-dns IP    address of the cluster's DNS (default 10.32.0.10)
#   --network MODE      vxlan (default), route (all nodes share a link), none (somebody else routes)
#   --from DIR          where the certificates and kubeconfigs are (default .)
#   --dry-run           only show what would be done
#
# DIR holds ca.pem, NAME.pem, NAME-key.pem, NAME.kubeconfig, kube-proxy.kubeconfig and hardway-dns.kubeconfig; and, where Ingresses
# shall be served (docs/ingress.md), hardway-ingress.kubeconfig. Run again, it changes what is different and restarts the daemons when
# something was; pods go on meanwhile.
set -euo pipefail
. "$(dirname "$0")/machine.sh"
ip='' name=$(hostname) pod_range=10.200.0.0/16 cluster_dns=10.32.0.10 network=vxlan from=.
while [ $# -gt 0 ]; do
  case $1 in
    --ip) ip=$2; shift ;;
    --name) name=$2; shift ;;
    --pod-range) pod_range=$2; shift ;;
    --cluster-dns) cluster_dns=$2; shift ;;
    --network) network=$2; shift ;;
    --from) from=$2; shift ;;
    --dry-run) dry_run=yes ;;
    *) usage ;;
  esac
  shift
done
[ -n "$ip" ] || usage
need_root

programs hardway-nodeagent hardway-supervisor hardway-netproxy hardway-dns
units hardway-nodeagent.service hardway-netproxy.service hardway-dns.service hardway-worker.target

explain "Certificates and keys"
place "$from/ca.pem" "$etc/pki/ca.pem"
serving='enableServer: false' # without a certificate, while it joins, port 10250 is closed
if [ -f "$from/$name.pem" ]; then
  place "$from/$name.pem" "$etc/pki/$name.pem"
  place "$from/$name-key.pem" "$etc/pki/$name-key.pem" root 0400
  serving=$(printf 'tlsCertFile: %s\ntlsPrivateKeyFile: %s' "$etc/pki/$name.pem" "$etc/pki/$name-key.pem")
fi

explain "Configuration"
place "$from/$name.kubeconfig" "$etc/$name.kubeconfig" root 0400
place "$from/kube-proxy.kubeconfig" "$etc/kube-proxy.kubeconfig" hardway-netproxy 0400
place "$from/hardway-dns.kubeconfig" "$etc/hardway-dns.kubeconfig" hardway-dns 0400
netproxy_flags=$(kept NETPROXY_FLAGS worker.env)
if [ -f "$from/hardway-ingress.kubeconfig" ]; then
  place "$from/hardway-ingress.kubeconfig" "$etc/hardway-ingress.kubeconfig" hardway-netproxy 0400
  [[ $netproxy_flags == *--ingress-kubeconfig=* ]] || netproxy_flags+=" --ingress-kubeconfig=$etc/hardway-ingress.kubeconfig"
fi
resolv=/etc/resolv.conf
[ ! -f /run/systemd/resolve/resolv.conf ] || resolv=/run/systemd/resolve/resolv.conf # /etc's names 127.0.0.53
put "$etc/kubelet-config.yaml" <<END
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: $etc/pki/ca.pem
authorization:
  mode: Webhook
clusterDomain: cluster.local
clusterDNS:
  - $cluster_dns
resolvConf: $resolv
$serving
END
put "$etc/kube-proxy-config.yaml" <<END
kind: KubeProxyConfiguration
apiVersion: kubeproxy.config.k8s.io/v1alpha1
clientConnection:
  kubeconfig: $etc/kube-proxy.kubeconfig
mode: nftables
clusterCIDR: $pod_range
END
put "$etc/worker.env" <<END
# Written by install-worker.sh. The units of a node read it; *_FLAGS are added to their command lines.
NODE_NAME=$name
INTERNAL_IP=$ip
POD_RANGE=$pod_range
CLUSTER_DNS=$cluster_dns
NETWORK_MODE=$network
NODEAGENT_FLAGS="$(kept NODEAGENT_FLAGS worker.env)"
NETPROXY_FLAGS="$netproxy_flags"
DNS_FLAGS="$(kept DNS_FLAGS worker.env)"
END

start_target hardway-worker.target hardway-nodeagent hardway-netproxy hardway-dns
