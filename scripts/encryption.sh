#!/usr/bin/env bash
# Says how the API server encrypts Secrets in etcd: writes an EncryptionConfiguration with a new random key.
#
#   encryption.sh [FILE]            make FILE (default encryption-config.yaml) unless it is there
#   encryption.sh rotate [FILE]     put a further key in front: new writes use it, old ones can still be read
#   encryption.sh retire [FILE]     drop all keys but the first
#
# To change the key of a running cluster: rotate; bring FILE to every API server and restart one after the other; write
# every Secret again (kubectl get secrets -A -o json | kubectl replace -f -); retire; bring FILE and restart again.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
fail() { printf 'encryption: %s\n' "$*" >&2; exit 1; }

action=make
case ${1:-} in
  rotate | retire) action=$1; shift ;;
  -*) usage ;;
esac
[ $# -le 1 ] || usage
file=${1:-encryption-config.yaml}

keys() { sed -n 's/^ *- name: key/key/p; s/^ *secret: //p' "$file" 2>/dev/null | paste - -; } # NAME SECRET a line

write() { # from lines NAME SECRET
  (umask 077 && {
    cat <<'END'
kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources:
      - secrets
    providers:
      - aescbc:
          keys:
END
    while read -r name secret; do printf '            - name: %s\n              secret: %s\n' "$name" "$secret"; done
    echo '      - identity: {}'
  } >"$file.new")
  mv "$file.new" "$file"
}

new_key() { printf 'key%d %s\n' "$1" "$(head -c 32 /dev/urandom | base64)"; }

case $action in
  make)
    [ ! -f "$file" ] || exit 0
    new_key 1 | write
    echo "encryption: new key in $file"
    ;;
  rotate)
    [ -n "$(keys)" ] || fail "$file holds no keys"
    last=$(keys | sed 's/^key\([0-9]*\).*/\1/' | sort -n | tail -1)
    { new_key $((last + 1)); keys; } >"$file.keys"
    write <"$file.keys"
    rm "$file.keys"
    echo "encryption: key$((last + 1)) is the first of $(keys | wc -l) keys in $file"
    ;;
  retire)
    [ -n "$(keys)" ] || fail "$file holds no keys"
    first=$(keys | head -1)
    write <<<"$first"
    echo "encryption: ${first%%[[:space:]]*} is the only key in $file"
    ;;
esac
