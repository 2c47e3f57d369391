#!/usr/bin/env bash
# Makes the certificates of a cluster, in the names of "Kubernetes the Hard Way".
#
#   certs.sh [options] [DIR]     make what is missing in DIR (default .hardway/pki)
#   certs.sh status [DIR]        what is there, for whom, and when it expires
#   certs.sh renew [DIR]         make every certificate anew, with the names that it has; CAs and their keys stay
#   certs.sh replace-ca prepare|switch|finish [DIR]
#                                a new CA without downtime, in three steps: both are trusted; the new one has signed
#                                everything; the old one is forgotten. Between two steps every machine gets its files
#
#   --node NAME=IP     a node's certificate; may be repeated (default: none)
#   --address A        a further IP address or name of the API server; may be repeated
#   --key ecdsa|rsa    P-256 (default), or RSA 2048 as in the guide
#   --days N           lifetime of what the CA signs (default 365)
#   --ca-days N        lifetime of the CA (default 3650)
#
# A certificate that is there is kept, unless it expires within 30 days, comes from another CA, or no longer names
# what it should: then it is made anew (daemons read their files again by themselves). The CAs and the service-account
# key are never replaced. Each NAME gives NAME.pem and NAME-key.pem.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
fail() { printf 'certs: %s\n' "$*" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
dir='' nodes=() addresses=() key=ecdsa days=365 ca_days=3650 action=make
renew_seconds=$((30 * 24 * 3600))
while [ $# -gt 0 ]; do
  case $1 in
    --node) nodes+=("$2"); shift ;;
    --address) addresses+=("$2"); shift ;;
    --key) key=$2; shift ;;
    --days) days=$2; shift ;;
    --ca-days) ca_days=$2; shift ;;
    status | renew) action=$1 ;;
    replace-ca)
      case ${2:-} in prepare | switch | finish) action=$2 ;; *) usage ;; esac
      shift
      ;;
    -*) usage ;;
    *) [ -z "$dir" ] || usage; dir=$1 ;;
  esac
  shift
done
dir=${dir:-$here/../.hardway/pki}
case $key in ecdsa | rsa) ;; *) fail "--key $key: ecdsa or rsa" ;; esac

new_key() { # FILE
  local options=(-algorithm EC -pkeyopt ec_paramgen_curve:P-256)
  [ "$key" = ecdsa ] || options=(-algorithm RSA -pkeyopt rsa_keygen_bits:2048)
  (umask 077 && openssl genpkey "${options[@]}" -out "$1" 2>/dev/null)
}

authority() { # NAME SUBJECT
  [ ! -f "$1.pem" ] || [ ! -f "$1-key.pem" ] || return 0
  [ ! -f "$1.pem" ] || fail "$PWD/$1.pem is there but its key is not: nothing can be signed with it"
  new_key "$1-key.pem"
  openssl req -x509 -new -key "$1-key.pem" -days "$ca_days" -subj "$2" -out "$1.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
  echo "certs: new CA $1"
}

# names_in prints the alternative names of a certificate's text as openssl takes them: IP:10.0.0.1,DNS:node
names_in() { # TEXT
  local names
  [[ $1 = *'Alternative Name:'* ]] || return 0
  names=${1#*Alternative Name:*$'\n'} names=${names%%$'\n'*} names=${names// /}
  printf '%s\n' "${names//IPAddress:/IP:}"
}

good() { # NAME SUBJECT NAMES CA
  local text
  [ -f "$1.pem" ] && [ -f "$1-key.pem" ] || return 1
  text=$(openssl x509 -in "$1.pem" -noout -checkend "$renew_seconds" -subject -nameopt compat -ext subjectAltName 2>/dev/null) || return 1
  [[ $'\n'$text$'\n' = *$'\n'"subject=$2"$'\n'* ]] || return 1
  [ "$(names_in "$text")" = "$3" ] || return 1
  openssl verify -CAfile "$4.pem" "$1.pem" >/dev/null 2>&1
}

certificate() { # NAME SUBJECT USAGE [NAMES [CA]]
  local name=$1 subject=$2 usage=$3 names=${4:-} ca=${5:-ca}
  good "$name" "$subject" "$names" "$ca" && return
  issue "$name" "$subject" "$usage" "$names" "$ca"
}

issue() { # as certificate, even when there is a good one
  local name=$1 subject=$2 usage=$3 names=$4 ca=$5 key_usage=digitalSignature
  [ "$key" = ecdsa ] || key_usage+=,keyEncipherment
  new_key "$name-key.pem.new"
  {
    echo basicConstraints=critical,CA:FALSE
    echo "keyUsage=critical,$key_usage"
    echo "extendedKeyUsage=$usage"
    [ -z "$names" ] || echo "subjectAltName=$names"
  } >"$name.ext"
  openssl req -new -key "$name-key.pem.new" -subj "$subject" |
    openssl x509 -req -CA "$ca.pem" -CAkey "$ca-key.pem" -set_serial "0x$(openssl rand -hex 16)" -days "$days" \
      -extfile "$name.ext" -out "$name.pem.new" 2>/dev/null
  rm "$name.ext"
  mv "$name-key.pem.new" "$name-key.pem"
  mv "$name.pem.new" "$name.pem"
  echo "certs: $name"
}

alternative_name() { # ADDRESS: as openssl writes it
  case $1 in *[!0-9.]*) echo "DNS:$1" ;; *) echo "IP:$1" ;; esac
}

make_all() {
  local client=clientAuth both=serverAuth,clientAuth n a names
  authority ca /O=Kubernetes/OU=CA/CN=Kubernetes
  certificate admin /O=system:masters/CN=admin $client
  certificate kube-controller-manager /O=system:kube-controller-manager/CN=system:kube-controller-manager $both DNS:localhost,IP:127.0.0.1
  certificate kube-scheduler /O=system:kube-scheduler/CN=system:kube-scheduler $both DNS:localhost,IP:127.0.0.1
  certificate kube-proxy /O=system:node-proxier/CN=system:kube-proxy $client
  certificate hardway-dns /CN=system:hardway-dns $client
  certificate hardway-ingress /CN=system:hardway-ingress $client
  certificate kube-apiserver-kubelet-client /CN=kube-apiserver-kubelet-client $client
  names=IP:10.32.0.1,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
  names+=,DNS:kubernetes.default.svc.cluster.local
  for a in ${addresses[@]+"${addresses[@]}"}; do names+=,$(alternative_name "$a"); done
  certificate kubernetes /O=Kubernetes/CN=kubernetes $both "$names"
  for n in ${nodes[@]+"${nodes[@]}"}; do # serves :10250 with it as well
    case $n in ?*=?*) ;; *) fail "--node $n: NAME=IP is wanted" ;; esac
    certificate "${n%%=*}" "/O=system:nodes/CN=system:node:${n%%=*}" $both "DNS:${n%%=*},IP:${n#*=}"
  done
  # What the API server shows to API servers that extend it; a CA of its own, so that no client's certificate will do.
  authority front-proxy-ca /O=Kubernetes/OU=CA/CN=front-proxy-ca
  certificate front-proxy-client /CN=front-proxy-client $client '' front-proxy-ca
  # A new key would make every token in use worthless, so this one is only ever made once. Its certificate is how the
  # guide hands over the public half; nobody checks its dates.
  [ -f service-account-key.pem ] || { new_key service-account-key.pem && rm -f service-account.pem; }
  [ -f service-account.pem ] ||
    openssl req -new -key service-account-key.pem -subj /O=Kubernetes/CN=service-accounts |
    openssl x509 -req -CA ca.pem -CAkey ca-key.pem -set_serial "0x$(openssl rand -hex 16)" -days "$ca_days" -out service-account.pem 2>/dev/null
}

status() {
  local f end left note
  printf '%-32s %-46s %s\n' NAME SUBJECT EXPIRES
  for f in *.pem; do
    case $f in *-key.pem) continue ;; esac
    end=$(openssl x509 -in "$f" -noout -enddate)
    left=$((($(date -d "${end#*=}" +%s) - $(date +%s)) / 86400))
    note="in $left days"
    [ $left -ge 0 ] || note="EXPIRED $((-left)) days ago"
    printf '%-32s %-46s %s (%s)\n' "${f%.pem}" "$(openssl x509 -in "$f" -noout -subject -nameopt compat | sed 's/^subject=//')" \
      "$(date -u -d "${end#*=}" +%Y-%m-%d)" "$note"
  done
}

# renew makes what a CA has signed anew. A service account's certificate is only a wrapping for its public key.
renew() { # CA
  local file text subject usage
  for file in *-key.pem; do
    file=${file%-key.pem}
    case $file in ca | ca-next | front-proxy-ca | service-account) continue ;; esac
    [ "$(openssl x509 -in "$file.pem" -noout -issuer -nameopt compat)" = "issuer=$(openssl x509 -in "$1.pem" -noout -subject -nameopt compat | sed 's/^subject=//')" ] || continue
    text=$(openssl x509 -in "$file.pem" -noout -subject -nameopt compat -ext subjectAltName,extendedKeyUsage 2>/dev/null)
    subject=$(sed -n 's/^subject=//p' <<<"$text")
    usage=clientAuth
    [[ $text != *'Server Authentication'* ]] || usage=serverAuth,clientAuth
    issue "$file" "$subject" "$usage" "$(names_in "$text")" "$1"
  done
}

# replace_ca keeps in ca.pem what is trusted, first the one that signs.
replace_ca() {
  case $action in
    prepare)
      authority ca-next "/O=Kubernetes/OU=CA/CN=Kubernetes"
      [ "$(grep -c BEGIN ca.pem)" = 1 ] || fail "two CAs are trusted already: go on with 'switch'"
      cat ca-next.pem >>ca.pem
      ;;
    switch)
      [ -f ca-next.pem ] && [ "$(grep -c BEGIN ca.pem)" = 2 ] || fail "there is no new CA that is trusted: begin with 'prepare'"
      openssl x509 -in ca.pem >ca-old.pem
      cat ca-next.pem ca-old.pem >ca.pem
      mv ca-next-key.pem ca-key.pem
      rm ca-next.pem ca-old.pem
      renew ca
      ;;
    finish)
      [ ! -f ca-next.pem ] && [ "$(grep -c BEGIN ca.pem)" = 2 ] || fail "the new CA has not signed everything: 'switch' comes first"
      openssl x509 -in ca.pem >ca.pem.new
      mv ca.pem.new ca.pem
      ;;
  esac
  echo "certs: trusted now: $(grep -c BEGIN ca.pem) CA"
}

case $action in
  make) mkdir -p "$dir" ;;
  *) [ -f "$dir/ca.pem" ] || fail "no certificates in $dir" ;;
esac
cd "$dir"
case $action in
  make) make_all ;;
  status) status ;;
  renew) renew ca && renew front-proxy-ca ;;
  *) replace_ca ;;
esac
