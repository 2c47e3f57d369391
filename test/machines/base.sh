#!/usr/bin/env bash
# Makes the file system that every machine of a lab starts from: Debian with systemd and what an administrator would have
# installed, reachable by ssh from its like. Needs the network, once.
#
#   base.sh DIR
set -euo pipefail
base=$1
packages=(systemd systemd-sysv dbus iproute2 iputils-ping procps kmod curl ca-certificates openssl jq nginx-light libnginx-mod-stream
  openssh-server openssh-client libseccomp2 nftables)
want=${packages[*]}
[ "$(cat "$base/.made-of" 2>/dev/null)" != "$want" ] || exit 0

for tool in debootstrap:debootstrap systemd-nspawn:systemd-container; do
  command -v "${tool%:*}" >/dev/null ||
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${tool#*:}" >/dev/null
done
rm -rf "$base"
mkdir -p "$base"
list=$(IFS=,; echo "${packages[*]}")
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -1) # this machine's
[ -n "$mirror" ] || { echo "base.sh: apt on this machine knows no mirror of Debian 12" >&2; exit 1; }
debootstrap --variant=minbase --include="$list" bookworm "$base" "$mirror" >"$base.log" 2>&1 ||
  { tail -20 "$base.log" >&2; exit 1; }

systemctl -q --root="$base" enable systemd-networkd
systemctl -q --root="$base" disable nginx
systemctl -q --root="$base" mask apt-daily.timer apt-daily-upgrade.timer systemd-firstboot.service console-getty.service getty.target
rm -f "$base/etc/machine-id"
touch "$base/etc/machine-id"

# nspawn shows the cgroup hierarchies of v1 read-only; a machine has them for itself.
cat >"$base/etc/systemd/system/cgroups-writable.service" <<'END'
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for d in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$d" || true; done'
[Install]
WantedBy=sysinit.target
END
systemctl -q --root="$base" enable cgroups-writable

# One key for all: who is root on one machine of a lab is root on all.
mkdir -p -m 700 "$base/root/.ssh"
ssh-keygen -q -t ed25519 -N '' -f "$base/root/.ssh/id_ed25519"
cp "$base/root/.ssh/id_ed25519.pub" "$base/root/.ssh/authorized_keys"
printf 'Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n' >"$base/root/.ssh/config"
echo "$want" >"$base/.made-of"
