#!/usr/bin/env bash
# Makes this machine a controller: API server (with an etcd member inside), controllers, scheduler.
#
#   install-controller.sh --ip ADDRESS [options]
#
#   --ip ADDRESS          of this machine, as the others reach it
#   --name NAME           of its etcd member (default: the host name)
#   --members N=IP,...    all controllers, for the first start of a cluster (default: this one alone)
#   --join                the cluster runs already, and this member was added to it ('etcdctl member add')
#   --etcd-servers URL,.. an etcd cluster of its own is used, no member is inside
#   --service-range CIDR  addresses of Services (default 10.32.0.0/24)
#   --pod-range CIDR      addresses of pods (default 10.200.0.0/16)
#   --from DIR            where the certificates and kubeconfigs are (default .)
#   --dry-run             only show what would be done
#
# DIR holds, by the names that certs.sh, kubeconfigs.sh and encryption.sh give them: ca.pem, ca-key.pem, kubernetes.pem,
# kube-apiserver-kubelet-client.pem, front-proxy-ca.pem, front-proxy-client.pem, service-account.pem,
# kube-controller-manager.pem, kube-scheduler.pem, each with its key, the kubeconfigs of both, and encryption-config.yaml.
# Run again, it changes what is different and restarts the daemons when something was.
set -euo pipefail
. "$(dirname "$0")/machine.sh"
ip='' name=$(hostname) members='' state=new etcd_servers='' service_range=10.32.0.0/24 pod_range=10.200.0.0/16 from=.
while [ $# -gt 0 ]; do
  case $1 in
    --ip) ip=$2; shift ;;
    --name) name=$2; shift ;;
    --members) members=$2; shift ;;
    --join) state=existing ;;
    --etcd-servers) etcd_servers=$2; shift ;;
    --service-range) service_range=$2; shift ;;
    --pod-range) pod_range=$2; shift ;;
    --from) from=$2; shift ;;
    --dry-run) dry_run=yes ;;
    *) usage ;;
  esac
  shift
done
[ -n "$ip" ] || usage
need_root
members=${members:-$name=$ip}

etcd_flags() {
  local cluster=$members
  if [ -n "$etcd_servers" ]; then
    echo "--etcd-servers=$etcd_servers"
    return
  fi
  cluster=$(sed 's/=/=https:\/\//g; s/,/:2380,/g; s/$/:2380/' <<<"$cluster")
  echo "--etcd-name=$name --etcd-data-dir=/var/lib/hardway/etcd" \
    "--etcd-listen-client-urls=https://$ip:2379,https://127.0.0.1:2379" \
    "--etcd-listen-peer-urls=https://$ip:2380 --etcd-initial-advertise-peer-urls=https://$ip:2380" \
    "--etcd-initial-cluster=$cluster --etcd-initial-cluster-state=$state --etcd-initial-cluster-token=hardway"
}

programs hardway-apiserver hardway-controllers hardway-scheduler kubectl etcdctl etcdutl
units hardway-apiserver.service hardway-controllers.service hardway-scheduler.service hardway-controller.target

explain "Certificates and keys: each daemon can read its own"
for file in ca kubernetes kube-apiserver-kubelet-client front-proxy-ca front-proxy-client service-account kube-controller-manager kube-scheduler; do
  place "$from/$file.pem" "$etc/pki/$file.pem"
done
for file in kubernetes kube-apiserver-kubelet-client front-proxy-client; do
  place "$from/$file-key.pem" "$etc/pki/$file-key.pem" hardway-apiserver 0400
done
# The API server signs tokens of pods, the controllers those in Secrets.
place "$from/service-account-key.pem" "$etc/pki/service-account-key.pem" hardway-apiserver:hardway-controllers 0440
place "$from/ca-key.pem" "$etc/pki/ca-key.pem" hardway-controllers 0400
place "$from/kube-controller-manager-key.pem" "$etc/pki/kube-controller-manager-key.pem" hardway-controllers 0400
place "$from/kube-scheduler-key.pem" "$etc/pki/kube-scheduler-key.pem" hardway-scheduler 0400

explain "Configuration"
place "$from/kube-controller-manager.kubeconfig" "$etc/kube-controller-manager.kubeconfig" hardway-controllers 0400
place "$from/kube-scheduler.kubeconfig" "$etc/kube-scheduler.kubeconfig" hardway-scheduler 0400
place "$from/encryption-config.yaml" "$etc/encryption-config.yaml" hardway-apiserver 0400
# Who changed what, without the contents; nobody's reads, and not what daemons write all the time. Yours to change.
[ -f "$etc/audit-policy.yaml" ] || put "$etc/audit-policy.yaml" <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    verbs: [get, list, watch]
  - level: None
    userGroups: [system:nodes]
  - level: None
    resources:
      - group: coordination.k8s.io
        resources: [leases]
      - group: ""
        resources: [events]
      - group: events.k8s.io
        resources: [events]
  - level: Metadata
END
put "$etc/kube-scheduler.yaml" <<END
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: $etc/kube-scheduler.kubeconfig
leaderElection:
  leaderElect: true
  leaseDuration: 8s
  renewDeadline: 6s
  retryPeriod: 1s
END
put "$etc/controller.env" <<END
# Written by install-controller.sh. The units of the control plane read it; *_FLAGS are added to their command lines.
INTERNAL_IP=$ip
SERVICE_RANGE=$service_range
POD_RANGE=$pod_range
ETCD_FLAGS="$(etcd_flags)"
APISERVER_FLAGS="$(kept APISERVER_FLAGS controller.env)"
CONTROLLERS_FLAGS="$(kept CONTROLLERS_FLAGS controller.env)"
SCHEDULER_FLAGS="$(kept SCHEDULER_FLAGS controller.env)"
END

start_target hardway-controller.target hardway-apiserver hardway-controllers hardway-scheduler

if [ -d /etc/nginx/sites-available ]; then
  changed=''
  explain "Health for load balancers: http://$ip/healthz, Host kubernetes.default.svc.cluster.local"
  place "$here/systemd/nginx/healthz.conf" /etc/nginx/sites-available/kubernetes.default.svc.cluster.local
  [ -e /etc/nginx/sites-enabled/kubernetes.default.svc.cluster.local ] ||
    run ln -s ../sites-available/kubernetes.default.svc.cluster.local /etc/nginx/sites-enabled/
  [ -z "$changed" ] || run systemctl restart nginx
fi
