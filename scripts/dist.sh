#!/usr/bin/env bash
# Packs what 'make build' has built: a tarball and Debian packages in .hardway/dist, with checksums and a list of the
# modules inside (SBOM, SPDX). The same source gives the same bytes.
#
#   dist.sh VERSION KUBERNETES
set -euo pipefail
. "$(dirname "$0")/lib.sh"
version=$1 kubernetes=$2 arch=$(dpkg --print-architecture)
dist=$build/dist
archive=hardway-$version-linux-$arch
tree=$dist/$archive
# Debian's versions begin with a digit: v1.2-3-gabc is 1.2.3.gabc, a bare commit 0~abc.
deb_version=$(sed 's/^v//; s/-/./g' <<<"$version")
case $deb_version in [0-9]*.*) ;; *) deb_version=0~$deb_version ;; esac
SOURCE_DATE_EPOCH=$(git -C "$root" -c safe.directory='*' log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# etcd and its tools, of the version that is inside the API server: to look at members, to restore backups, and for those who
# want an etcd cluster of its own.
etcd_tools() {
  local v dir
  v=$(sed -n 's/^\tgo.etcd.io\/etcd\/server\/v3 \(v[^ ]*\).*/\1/p' "$root/apiserver/go.mod")
  dir=$build/tools/etcd-$v
  [ -x "$dir/etcd" ] || (
    # 'go install' refuses modules with replacements, so a module is made that needs them.
    mkdir -p "$dir" && cd "$dir"
    export GOWORK=off CGO_ENABLED=0
    [ -f go.mod ] || go mod init tools
    go get "go.etcd.io/etcd/etcdctl/v3@$v" "go.etcd.io/etcd/etcdutl/v3@$v" "go.etcd.io/etcd/server/v3@$v"
    go build -trimpath -buildvcs=false -ldflags '-s -w' -o . go.etcd.io/etcd/etcdctl/v3 go.etcd.io/etcd/etcdutl/v3
    go build -trimpath -buildvcs=false -ldflags '-s -w' -o etcd go.etcd.io/etcd/server/v3
  )
  cp "$dir/etcdctl" "$dir/etcdutl" "$dir/etcd" "$tree/bin/"
}

programs=(hardway-apiserver hardway-controllers hardway-scheduler hardway-nodeagent hardway-supervisor hardway-netproxy hardway-dns kubectl)
tools=(certs kubeconfigs encryption machine install-controller install-worker install-loadbalancer token join upgrade backup restore uninstall check)

lay_out() {
  local p
  rm -rf "$dist"
  mkdir -p "$tree"/{bin,scripts,docs,examples,images}
  for p in "${programs[@]}"; do cp "$bin/$p" "$tree/bin/"; done
  etcd_tools
  for p in "${tools[@]}"; do [ ! -f "$root/scripts/$p.sh" ] || cp "$root/scripts/$p.sh" "$tree/scripts/"; done
  cp -r "$root/systemd" "$tree/"
  cp "$root/docs/the-hard-way.md" "$tree/docs/"
  cp "$root"/examples/*.yaml "$tree/examples/"
  cp "$build"/images/{hello-1,busybox-latest}.tar "$tree/images/"
  cp "$root/LICENSE" "$tree/"
  printf '%s (Kubernetes %s)\n' "$version" "$kubernetes" >"$tree/VERSION"
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

tarball() {
  tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c "$archive" | gzip -1n >"$dist/$archive.tar.gz"
}

# sbom prints one SPDX package for every Go module that is in the programs.
sbom() {
  local p
  for p in "$tree"/bin/*; do go version -m "$p"; done | awk '$1 == "dep" {print $2, $3}' | sort -u |
    jq -Rn --arg archive "$archive" --arg created "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" '
      {spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", name: $archive,
       documentNamespace: ("https://hardway.invalid/spdx/" + $archive), creationInfo: {created: $created, creators: ["Tool: dist.sh"]},
       packages: [inputs | split(" ") | {name: .[0], versionInfo: .[1], downloadLocation: "NOASSERTION",
         SPDXID: ("SPDXRef-" + (.[0] + "-" + .[1] | gsub("[^A-Za-z0-9.-]"; "-"))),
         externalRefs: [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: ("pkg:golang/" + .[0] + "@" + .[1])}]}]}'
}

# deb makes a package: programs in /usr/bin, units in /lib/systemd/system, the install scripts in /usr/share/hardway.
deb() { # NAME DEPENDS DESCRIPTION UNITS PROGRAM...
  local package=$1 depends=$2 description=$3 units=$4 at=$dist/deb/$1 p
  shift 4
  mkdir -p "$at/DEBIAN" "$at/usr/bin"
  for p in "$@"; do cp -p "$tree/bin/$p" "$at/usr/bin/"; done
  for p in $units; do install -Dpm644 "$tree/systemd/$p" "$at/lib/systemd/system/$p"; done
  if [ "$package" = hardway-common ]; then
    install -Dpm644 "$tree/systemd/hardway.sysusers.conf" "$at/usr/lib/sysusers.d/hardway.conf"
    install -Dpm644 "$tree/systemd/hardway.tmpfiles.conf" "$at/usr/lib/tmpfiles.d/hardway.conf"
    mkdir -p "$at/usr/share/hardway/systemd" "$at/usr/share/doc/hardway"
    cp -rp "$tree/scripts" "$tree/examples" "$tree/images" "$at/usr/share/hardway/"
    cp -rp "$tree/systemd/nginx" "$at/usr/share/hardway/systemd/"
    cp -p "$tree/docs/the-hard-way.md" "$tree/LICENSE" "$at/usr/share/doc/hardway/"
    printf '#!/bin/sh\nset -e\nsystemd-sysusers hardway.conf\nsystemd-tmpfiles --create hardway.conf\n' >"$at/DEBIAN/postinst"
  elif [ -n "$units" ]; then
    # An upgrade restarts what runs, and nothing else; what is to run is decided by the install scripts.
    printf '#!/bin/sh\nset -e\n[ ! -d /run/systemd/system ] || { systemctl daemon-reload; systemctl try-restart %s; }\n' \
      "$(grep -o '[a-z-]*\.service' <<<"$units" | tr '\n' ' ')" >"$at/DEBIAN/postinst"
  fi
  [ ! -f "$at/DEBIAN/postinst" ] || chmod 755 "$at/DEBIAN/postinst"
  cat >"$at/DEBIAN/control" <<END
Package: $package
Version: $deb_version
Architecture: $arch
Maintainer: The Hardway authors <hardway@hardway.invalid>
Section: admin
Priority: optional
Depends: $depends
Description: $description
 Kubernetes $kubernetes as six small daemons.
END
  find "$at" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb -Zgzip -z1 --root-owner-group -b "$at" "$dist/${package}_${deb_version}_$arch.deb" >/dev/null
}

packages() {
  deb hardway-common "systemd, openssl" "Hardway: users, folders and install scripts" "" etcdctl etcdutl kubectl
  deb hardway-controller "hardway-common (= $deb_version)" "Hardway: control plane" \
    "hardway-apiserver.service hardway-controllers.service hardway-scheduler.service hardway-controller.target" \
    hardway-apiserver hardway-controllers hardway-scheduler
  deb hardway-worker "hardway-common (= $deb_version), libseccomp2, libc6" "Hardway: node" \
    "hardway-nodeagent.service hardway-netproxy.service hardway-dns.service hardway-worker.target" \
    hardway-nodeagent hardway-supervisor hardway-netproxy hardway-dns
  rm -rf "$dist/deb"
}

step "lay out" lay_out
step "tarball" tarball
step "packages" packages
sbom >"$dist/$archive.spdx.json"
(cd "$dist" && sha256sum ./*.tar.gz ./*.deb ./*.spdx.json | sed 's# \./# #' >SHA256SUMS)
rm -rf "$tree"
(cd "$dist" && ls -l --time-style=+ | awk 'NR > 1 {printf "  %11d  %s\n", $5, $6}')
