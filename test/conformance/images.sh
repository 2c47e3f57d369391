#!/usr/bin/env bash
# Builds the container images that upstream's conformance tests start, from published Go modules and Debian packages.
#
#   images.sh WORK OUT      WORK keeps what the next build can use again; OUT gets an archive for each image
#
# Needs Go, gcc with libc6-dev, apt-get, dpkg-deb. Needs no registry and no container engine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" "$2"
work=$(cd "$1" && pwd) out=$(cd "$2" && pwd) layers=$work/layers
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
rm -rf "$layers"
mkdir -p "$layers" "$work/bin"

program() { # NAME PACKAGE [LDFLAGS]
  go build -C "$here/upstream" -trimpath -ldflags "-s -w ${3:-}" -o "$work/bin/$1" "$2"
}
# packages unpacks Debian packages, with all that they depend on, into $work/debs/NAME/tree. The system's own are not looked at.
packages() { # NAME PACKAGE...
  local dir=$work/debs/$1 archive
  shift
  [ ! -e "$dir/done" ] || return 0
  rm -rf "$dir"
  mkdir -p "$dir/tree" "$dir/archives/partial"
  : >"$dir/status"
  apt-get -qq -y -d -o Dir::State::status="$dir/status" -o Dir::Cache::archives="$dir/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o APT::Install-Recommends=0 install "$@" >"$dir/log" 2>&1 ||
    { cat "$dir/log" >&2; echo "images: apt-get cannot fetch $*: 'apt-get update' may help" >&2; exit 1; }
  for archive in "$dir"/archives/*.deb; do dpkg-deb -x "$archive" "$dir/tree"; done
  touch "$dir/done"
}
# take copies programs of unpacked packages into a layer, with the libraries that they load.
take() { # PACKAGES LAYER PATH...
  local tree=$work/debs/$1/tree layer=$layers/$2 loader library path
  shift 2
  loader=$(compgen -G "$tree/lib*/ld-linux-*.so.*" | head -1)
  for path in "$@"; do
    install -D "$tree/$path" "$layer/$path"
    "$loader" --inhibit-cache --library-path "$(echo "$tree"/lib/*-linux-gnu):$(echo "$tree"/usr/lib/*-linux-gnu)" --list "$tree/$path" |
      { grep -o "$tree/[^ ]*" || true; } | while read -r library; do install -D "$library" "$layer/${library#"$tree/"}"; done
  done
}

(cd "$here/.." && GOFLAGS= go build -trimpath -o "$work/bin/images" ./conformance/images)
program agnhost k8s.io/kubernetes/test/images/agnhost "-X main.Version=2.63.0"
program nnp k8s.io/kubernetes/test/images/nonewprivs
program etcd go.etcd.io/etcd/server/v3
kube=$(go list -C "$here/upstream" -m -f '{{.Dir}}' k8s.io/kubernetes)
gcc -Os -static -s -DVERSION=v3.10.2 -o "$work/bin/pause" "$kube/build/pause/linux/pause.c"
if [ ! -x "$work/bin/sample-apiserver" ]; then
  # Of an older release, and with replacements in its module: it is built inside a copy.
  source=$(cd "$work" && go mod download -json k8s.io/sample-apiserver@v0.29.2 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  rm -rf "$work/sample-apiserver"
  cp -r "$source" "$work/sample-apiserver"
  chmod -R u+w "$work/sample-apiserver"
  go build -C "$work/sample-apiserver" -trimpath -ldflags "-s -w" -o "$work/bin/sample-apiserver" .
fi
packages shell busybox-static bash-static
packages nginx nginx
packages tools bash bind9-dnsutils bind9-host curl iperf iproute2 libc-bin netcat-openbsd wget

# base: busybox under all its names. sh is bash: the tests set variables such as data-1, which busybox's shell drops.
base=$layers/base
mkdir -p "$base"/{bin,sbin,usr/{bin,sbin,local/bin},etc,dev,proc,sys,run,tmp,var/{tmp,log,run},home,root,mnt,opt}
cp "$work/debs/shell/tree/bin/busybox" "$base/bin/busybox"
for path in $("$base/bin/busybox" --list-full) $("$base/bin/busybox" --list | sed 's|^|bin/|'); do
  [ -e "$base/$path" ] || [ -L "$base/$path" ] || { mkdir -p "$base/${path%/*}" && ln -s /bin/busybox "$base/$path"; }
done
rm "$base/bin/sh"
cp "$work/debs/shell/tree/bin/bash-static" "$base/bin/sh"
printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/home:/bin/false >"$base/etc/passwd"
printf '%s\n' root:x:0: tty:x:5: nogroup:x:65534: >"$base/etc/group"
echo 'hosts: files dns' >"$base/etc/nsswitch.conf"

# agnhost: a test wants a user and a group that only the image knows, another one the name of the image's distribution.
agnhost=$layers/agnhost
mkdir -p "$agnhost/etc" "$agnhost/uploads"
cp "$work/bin/agnhost" "$agnhost/agnhost"
ln -s agnhost "$agnhost/agnhost-2"
cp "$kube"/test/images/agnhost/porter/localhost.{crt,key} "$agnhost/"
{ cat "$base/etc/passwd"; echo user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh; } >"$agnhost/etc/passwd"
{ cat "$base/etc/group"; printf '%s\n' user-defined-in-image:x:1000: group-defined-in-image:x:50000:user-defined-in-image; } >"$agnhost/etc/group"
printf '%s\n' 'NAME=agnhost' 'PRETTY_NAME="agnhost, in place of the one on Alpine Linux"' >"$agnhost/etc/os-release"

# tools: what the tests run in agnhost and glibc-dns-testing; wget, because busybox's crashes when told a timeout.
take tools tools bin/{bash,ip,nc.openbsd,ss} usr/bin/{dig,host,nslookup,curl,wget,iperf,getent}
mkdir -p "$layers/tools/sbin" "$layers/tools/usr/local/bin"
ln -s /bin/nc.openbsd "$layers/tools/usr/bin/nc"
ln -s /bin/ip "$layers/tools/sbin/ip"
ln -s /usr/bin/iperf "$layers/tools/usr/local/bin/iperf"

take nginx nginx usr/sbin/nginx
nginx=$layers/nginx
mkdir -p "$nginx"/{etc/nginx,usr/share/nginx/html,usr/bin,var/log/nginx,var/lib/nginx,run}
cp "$work/debs/nginx/tree/etc/nginx/mime.types" "$nginx/etc/nginx/"
ln -s /dev/stdout "$nginx/var/log/nginx/access.log"
ln -s /dev/stderr "$nginx/var/log/nginx/error.log"
cat >"$nginx/etc/nginx/nginx.conf" <<'END'
events {}
http {
  include mime.types;
  access_log /var/log/nginx/access.log;
  server { listen 80; root /usr/share/nginx/html; }
}
END
echo '<!DOCTYPE html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1>' >"$nginx/usr/share/nginx/html/index.html"

install -D "$work/bin/pause" "$layers/pause/pause"
install -D "$work/bin/nnp" "$layers/nonewprivs/usr/local/bin/nnp"
install -D "$work/bin/etcd" "$layers/etcd/usr/local/bin/etcd"
install -D "$work/bin/sample-apiserver" "$layers/sample-apiserver/sample-apiserver"
for page in kitten nautilus; do install -m 644 -D -t "$layers/$page" "$kube/test/images/$page/html/"*; done
"$work/bin/images" -layers "$layers" -out "$out"
