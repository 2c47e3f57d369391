#!/usr/bin/env bash
# Tokens with which new nodes join a cluster. Run it as administrator, where kubectl works (KUBECONFIG).
#
#   token.sh create --from DIR [--hours N]   make one that lasts N hours (default 2), and print what to run on the new node
#   token.sh list
#   token.sh delete ID
#
# DIR holds kube-proxy.kubeconfig and hardway-dns.kubeconfig (kubeconfigs.sh), whose server is how nodes reach the API. Who has
# a token may read these two, and ask for a node's certificate; the cluster's own controllers sign it. The token alone does
# not say whom to trust, the CA's hash beside it does.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
fail() { printf 'token: %s\n' "$*" >&2; exit 1; }

group=system:bootstrappers:hardway:nodes
from='' hours=2 action=${1:-}
[ $# = 0 ] || shift

# rights are the same for every token: to ask for certificates, to have those of nodes approved, to read the files.
rights() {
  local binding role subject
  while read -r binding role subject; do
    cat <<END
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "$binding"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "$role"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "$subject"}]
END
  done <<END
hardway:join:ask system:node-bootstrapper $group
hardway:join:approve system:certificates.k8s.io:certificatesigningrequests:nodeclient $group
hardway:join:renew system:certificates.k8s.io:certificatesigningrequests:selfnodeclient system:nodes
END
  local namespace object name reader
  while read -r namespace object name reader; do
    cat <<END
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: $namespace, name: "hardway:join:$name"}
rules: [{apiGroups: [""], resources: [$object], resourceNames: [$name], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: $namespace, name: "hardway:join:$name"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "hardway:join:$name"}
subjects: [$reader]
END
  done <<END
kube-system secrets hardway-worker {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "$group"}
kube-public configmaps cluster-info {apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}
END
}

create() {
  local id secret server ca hash
  [ -f "$from/kube-proxy.kubeconfig" ] && [ -f "$from/hardway-dns.kubeconfig" ] || fail "--from: kube-proxy.kubeconfig and hardway-dns.kubeconfig are wanted there"
  id=$(head -c 256 /dev/urandom | LC_ALL=C tr -dc a-z0-9 | head -c 6)
  secret=$(head -c 1024 /dev/urandom | LC_ALL=C tr -dc a-z0-9 | head -c 16)
  server=$(sed -n 's/^ *server: //p' "$from/kube-proxy.kubeconfig")
  ca=$(sed -n 's/^ *certificate-authority-data: //p' "$from/kube-proxy.kubeconfig")
  hash=$(base64 -d <<<"$ca" | openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)
  {
    rights
    cat <<END
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: kube-public, name: cluster-info}
data:
  kubeconfig: |
    apiVersion: v1
    kind: Config
    clusters:
    - name: ""
      cluster:
        certificate-authority-data: $ca
        server: $server
---
apiVersion: v1
kind: Secret
metadata: {namespace: kube-system, name: hardway-worker}
data:
  kube-proxy.kubeconfig: $(base64 -w0 "$from/kube-proxy.kubeconfig")
  hardway-dns.kubeconfig: $(base64 -w0 "$from/hardway-dns.kubeconfig")
---
apiVersion: v1
kind: Secret
metadata: {namespace: kube-system, name: bootstrap-token-$id}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: $id
  token-secret: $secret
  expiration: $(date -u -d "+$hours hours" +%Y-%m-%dT%H:%M:%SZ)
  usage-bootstrap-authentication: "true"
  usage-bootstrap-signing: "true"
  auth-extra-groups: $group
END
  } | kubectl apply -f - >/dev/null
  echo "join.sh --server $server --token $id.$secret --ca-hash sha256:$hash"
}

case $action in
  create)
    while [ $# -gt 0 ]; do
      case $1 in --from) from=$2; shift ;; --hours) hours=$2; shift ;; *) usage ;; esac
      shift
    done
    create
    ;;
  list)
    kubectl -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token \
      -o 'go-template={{range .items}}{{index .data "token-id" | base64decode}}	until {{index .data "expiration" | base64decode}}{{"\n"}}{{end}}'
    ;;
  delete) [ $# = 1 ] || usage; kubectl -n kube-system delete secret "bootstrap-token-${1%%.*}" ;;
  *) usage ;;
esac
