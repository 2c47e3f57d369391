#!/usr/bin/env bash
# Makes this machine a worker of a cluster that it knows nothing of but a token and the hash of the CA. token.sh prints the
# first line:
#
#   join.sh --server URL --token ID.SECRET --ca-hash sha256:HEX
#           --ip ADDRESS [--name NAME] [--pod-range CIDR] [--cluster-dns IP] [--network MODE]
#
# It fetches the cluster's CA and checks its hash, asks for a node's certificate with the token, and installs the node
# (install-worker.sh, which explains the other options). When the node is there it asks, now as the node, for the
# certificate of port 10250. No key leaves this machine. What it has got lies in /etc/hardway/join, so that it can be run again.
set -euo pipefail
. "$(dirname "$0")/machine.sh"
server='' token='' hash='' ip='' name=$(hostname) install=()
while [ $# -gt 0 ]; do
  case $1 in
    --server) server=$2; shift ;;
    --token) token=$2; shift ;;
    --ca-hash) hash=${2#sha256:}; shift ;;
    --ip) ip=$2; install+=("$1" "$2"); shift ;;
    --name) name=$2; install+=("$1" "$2"); shift ;;
    --pod-range | --cluster-dns | --network) install+=("$1" "$2"); shift ;;
    *) usage ;;
  esac
  shift
done
[ -n "$server" ] && [ -n "$token" ] && [ -n "$hash" ] && [ -n "$ip" ] || usage
need_root
PATH=$here/bin:$PATH
at=$etc/join
mkdir -p "$at"
chmod 700 "$at"
cd "$at"
umask 077

# authority keeps, of the CAs that the server tells of, the one that has the hash.
authority() {
  explain "The cluster's CA, and whether it is the one that is meant"
  curl -sSfk --retry 5 --retry-connrefused "$server/api/v1/namespaces/kube-public/configmaps/cluster-info" |
    grep -o 'certificate-authority-data: [A-Za-z0-9+/=]*' | cut -d' ' -f2 | base64 -d >offered.pem || fail "$server tells of no CA: token.sh create has to be run first"
  rm -f one-*.pem ca.pem
  csplit -sz -f one- -b %02d.pem offered.pem '/BEGIN/' '{*}'
  local one
  for one in one-*.pem; do
    [ "$(openssl x509 -in "$one" -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)" != "$hash" ] || cat "$one" >>ca.pem
  done
  rm one-*.pem offered.pem
  [ -f ca.pem ] || fail "the CA of $server is not the one with the hash $hash"
}

# as runs kubectl with the token, or with the node's certificate.
as() { # token|node ARGUMENT...
  local who=("--token=$token")
  [ "$1" = token ] || who=(--client-certificate="$at/client.pem" --client-key="$at/client-key.pem")
  shift
  kubectl --kubeconfig=/dev/null --server="$server" --certificate-authority="$at/ca.pem" "${who[@]}" "$@"
}

# certificate asks for one and waits until the cluster has signed it.
certificate() { # FILE WHO SIGNER USAGE [NAMES]
  local file=$1 who=$2 request=$name-$1-$(head -c 4 /dev/urandom | od -An -tx1 | tr -d ' ') end=$((SECONDS + 60)) options=()
  openssl x509 -in "$file.pem" -noout -checkend 86400 >/dev/null 2>&1 && openssl verify -CAfile ca.pem "$file.pem" >/dev/null 2>&1 && return
  explain "A certificate: $3"
  [ -f "$file-key.pem" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$file-key.pem" 2>/dev/null
  [ -z "${5:-}" ] || options=(-addext "subjectAltName=$5")
  as "$who" create -f - <<END
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: "$request"}
spec:
  signerName: kubernetes.io/$3
  usages: [digital signature, $4]
  request: $(openssl req -new -key "$file-key.pem" -subj "/O=system:nodes/CN=system:node:$name" "${options[@]}" | base64 -w0)
END
  until as "$who" get csr "$request" -o 'jsonpath={.status.certificate}' | base64 -d >"$file.new" && [ -s "$file.new" ]; do
    [ $SECONDS -lt $end ] || fail "$request was not signed within a minute: kubectl describe csr $request; kubectl certificate approve $request"
    sleep 0.3
  done
  mv "$file.new" "$file.pem"
}

authority
certificate client token kube-apiserver-client-kubelet "client auth"

explain "What the proxy and the DNS server need"
for file in kube-proxy hardway-dns; do
  as token -n kube-system get secret hardway-worker -o "jsonpath={.data.$file\.kubeconfig}" | base64 -d >$file.kubeconfig
done
cat >"$name.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
- name: hardway
  cluster:
    server: $server
    certificate-authority-data: $(base64 -w0 ca.pem)
users:
- name: system:node:$name
  user:
    client-certificate-data: $(base64 -w0 client.pem)
    client-key-data: $(base64 -w0 client-key.pem)
contexts:
- name: default
  context: {cluster: hardway, user: "system:node:$name"}
current-context: default
END

if [ ! -f "$name.pem" ]; then
  "$here/scripts/install-worker.sh" "${install[@]}" --from "$at"
  explain "Wait until the node is there"
  end=$((SECONDS + 60))
  until as node get node "$name" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "no node $name within a minute: journalctl -u hardway-nodeagent"
    sleep 0.3
  done
fi
certificate "$name" node kubelet-serving "server auth" "DNS:$name,IP:$ip"
"$here/scripts/install-worker.sh" "${install[@]}" --from "$at"
