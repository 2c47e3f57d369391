#!/usr/bin/env bash
# Writes a kubeconfig with embedded certificates for the administrator and for each daemon.
#
#   kubeconfigs.sh [options] PKI OUT
#
#   PKI            what certs.sh made
#   OUT            folder for the files: NAME.kubeconfig
#   --server URL   the API server as nodes and people reach it (default https://127.0.0.1:6443)
#   --local URL    as the scheduler and the controllers do, which run beside it (default https://127.0.0.1:6443)
#   --node NAME    a node; may be repeated
#
# The files say the same as those of "kubectl config set-cluster / set-credentials / set-context / use-context" with
# --embed-certs. A file is written only when its contents change.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }

server=https://127.0.0.1:6443 local=https://127.0.0.1:6443 nodes=() folders=()
while [ $# -gt 0 ]; do
  case $1 in
    --server) server=$2; shift ;;
    --local) local=$2; shift ;;
    --node) nodes+=("$2"); shift ;;
    -*) usage ;;
    *) folders+=("$1") ;;
  esac
  shift
done
[ ${#folders[@]} = 2 ] || usage
pki=${folders[0]} out=${folders[1]}

kubeconfig() { # NAME USER SERVER
  local name=$1 user=$2 server=$3 text
  text=$(cat <<END
apiVersion: v1
kind: Config
clusters:
- name: hardway
  cluster:
    server: $server
    certificate-authority-data: $(base64 -w0 "$pki/ca.pem")
users:
- name: $user
  user:
    client-certificate-data: $(base64 -w0 "$pki/$name.pem")
    client-key-data: $(base64 -w0 "$pki/$name-key.pem")
contexts:
- name: default
  context:
    cluster: hardway
    user: $user
current-context: default
END
  )
  [ "$(cat "$out/$name.kubeconfig" 2>/dev/null)" != "$text" ] || return 0
  (umask 077 && printf '%s\n' "$text" >"$out/$name.kubeconfig.new")
  mv "$out/$name.kubeconfig.new" "$out/$name.kubeconfig"
}

mkdir -p "$out"
kubeconfig admin admin "$server"
kubeconfig kube-controller-manager system:kube-controller-manager "$local"
kubeconfig kube-scheduler system:kube-scheduler "$local"
kubeconfig kube-proxy system:kube-proxy "$server"
kubeconfig hardway-dns system:hardway-dns "$server"
kubeconfig hardway-ingress system:hardway-ingress "$server"
for n in ${nodes[@]+"${nodes[@]}"}; do kubeconfig "$n" "system:node:$n" "$server"; done
