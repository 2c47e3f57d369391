#!/usr/bin/env bash
# Makes this machine the load balancer in front of the API servers: nginx, TCP on 6443 and 443.
#
#   install-loadbalancer.sh [--dry-run] ADDRESS...
#
# ADDRESS is that of a controller. nginx with its stream module must be installed (Debian: nginx-light
# libnginx-mod-stream).
set -euo pipefail
. "$(dirname "$0")/machine.sh"
addresses=()
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes ;;
    -*) usage ;;
    *) addresses+=("$1") ;;
  esac
  shift
done
[ ${#addresses[@]} -gt 0 ] || usage
need_root
[ -f /etc/nginx/nginx.conf ] || fail "nginx is not installed: apt-get install nginx-light libnginx-mod-stream"

explain "TCP load balancer for ${addresses[*]}"
servers=$(printf '        server %s:6443 max_fails=1 fail_timeout=5s;\n' "${addresses[@]}")
awk -v servers="$servers" '/^@SERVERS@$/ {print servers; next} {print}' "$here/systemd/nginx/stream.conf" | put /etc/nginx/tcpconf.d/kubernetes.conf
if ! grep -q '^include /etc/nginx/tcpconf.d/' /etc/nginx/nginx.conf; then
  { cat /etc/nginx/nginx.conf && echo 'include /etc/nginx/tcpconf.d/*.conf;'; } | put /etc/nginx/nginx.conf
fi
[ -z "$changed" ] || run nginx -t -q
run systemctl enable --quiet nginx
run systemctl reload-or-restart nginx
