#!/usr/bin/env bash
# Says what is wrong with this machine, before it becomes part of a cluster and later. Changes nothing.
#
#   check.sh [controller|worker]...    (default: what is installed here, else both)
#
# One line for each thing: ok, warn (it works, but), FAIL. The exit status is 1 when something has failed.
set -uo pipefail
etc=/etc/hardway failed=''
say() { printf '%-5s %s\n' "$1" "$2"; [ "$1" != FAIL ] || failed=yes; }
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }

roles=("$@")
for role in "$@"; do case $role in controller | worker) ;; *) usage ;; esac; done
if [ ${#roles[@]} = 0 ]; then
  for role in controller worker; do [ ! -f "$etc/$role.env" ] || roles+=("$role"); done
  [ ${#roles[@]} -gt 0 ] || roles=(controller worker)
fi

# port tells who listens: a daemon of ours is fine, nobody as well.
port() { # PORT UNIT
  local holder
  holder=$(ss -Hltnp "sport = :$1" | sed -n 's/.*users:(("\([^"]*\)".*/\1/p;q')
  case $holder in
    '') if systemctl -q is-active "$2" 2>/dev/null; then say FAIL "port $1: $2 runs but does not listen"; else say ok "port $1 is free"; fi ;;
    hardway-*) say ok "port $1: $holder" ;;
    *) say FAIL "port $1, wanted by $2, is in use by $holder" ;;
  esac
}

kernel() { # what a node needs: file systems and kinds of links
  local kind cgroups
  grep -qw overlay /proc/filesystems || modprobe -q overlay 2>/dev/null || say FAIL "the kernel has no overlayfs"
  for kind in bridge veth vxlan; do
    if unshare --net ip link add probe0 type $kind $([ $kind != vxlan ] || echo id 1 dstport 4789) 2>/dev/null; then
      say ok "links of type $kind"
    else
      say FAIL "the kernel makes no links of type $kind"
    fi
  done
  [ -e /proc/sys/net/netfilter/nf_conntrack_max ] || modprobe -q nf_conntrack 2>/dev/null || say warn "no connection tracking in the kernel yet (nf_conntrack)"
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    cgroups=" $(cat /sys/fs/cgroup/cgroup.controllers) "
  else
    cgroups=" $(awk '$4 == 1 {printf "%s ", $1}' /proc/cgroups) "
  fi
  for kind in cpu memory pids; do
    case $cgroups in *" $kind "*) say ok "cgroup controller $kind" ;; *) say FAIL "cgroup controller $kind is off (kernel command line: cgroup_enable=$kind)" ;; esac
  done
  [ "$(awk 'NR > 1' /proc/swaps | wc -l)" = 0 ] || say warn "swap is on: pods' memory limits do not cover it"
}

certificates() {
  local file days
  for file in "$etc"/pki/*.pem; do
    case $file in *-key.pem | *'*'*) continue ;; esac
    days=$((($(date -d "$(openssl x509 -in "$file" -noout -enddate | cut -d= -f2)" +%s) - $(date +%s)) / 86400))
    if [ $days -lt 0 ]; then say FAIL "$file expired $((-days)) days ago"
    elif [ $days -lt 30 ]; then say warn "$file expires in $days days"
    else say ok "$file: $days days"; fi
  done
}

disk() { # FOLDER: the nearest that exists
  local at=$1 used
  while [ ! -d "$at" ]; do at=$(dirname "$at"); done
  used=$(df --output=pcent "$at" | tail -1 | tr -dc 0-9)
  if [ "$used" -ge 95 ]; then say FAIL "$1: the disk is $used % full"
  elif [ "$used" -ge 80 ]; then say warn "$1: the disk is $used % full"
  else say ok "$1: the disk is $used % full"; fi
}

units() { # UNIT...
  local unit
  for unit in "$@"; do
    systemctl -q is-enabled "$unit" 2>/dev/null || continue
    if systemctl -q is-active "$unit"; then say ok "$unit runs ($("$unit" --version 2>/dev/null || echo '?'))"
    else say FAIL "$unit is $(systemctl is-active "$unit"): journalctl -u $unit"; fi
  done
}

if [ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)" = yes ]; then say ok "the clock is kept"; else say warn "nobody keeps the clock (no NTP): certificates and tokens depend on it"; fi
certificates
disk /var/lib/hardway
for role in "${roles[@]}"; do
  if [ "$role" = controller ]; then
    port 6443 hardway-apiserver
    port 2379 hardway-apiserver
    port 2380 hardway-apiserver
    port 10257 hardway-controllers
    port 10259 hardway-scheduler
    units hardway-apiserver hardway-controllers hardway-scheduler
  else
    kernel
    port 10250 hardway-nodeagent
    port 10256 hardway-netproxy
    disk /var/lib/kubelet
    units hardway-nodeagent hardway-netproxy hardway-dns
  fi
done
[ -z "$failed" ]
