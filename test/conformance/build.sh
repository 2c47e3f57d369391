#!/usr/bin/env bash
# Builds upstream's end-to-end test program, of the version that upstream/go.mod names, and the images that it starts.
#
#   build.sh OUT        OUT/e2e.test, OUT/images/*.tar; OUT/work keeps what the next build can use again
#
# What is there already is kept: the first build takes a quarter of an hour on two cores, the next no time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
# The sources of this folder are the key: a change of version or of an image builds again.
key=$(cat "$here"/{build.sh,images.sh,upstream/go.mod,images/main.go} | sha256sum | cut -d' ' -f1)
[ "$(cat "$out/key" 2>/dev/null)" != "$key" ] || exit 0
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
version=$(cd "$here/upstream" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
flags='-s -w'
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
done
echo "conformance: building upstream's test program $version"
(cd "$here/upstream" && go test -c -trimpath -ldflags "$flags" -o "$out/e2e.test" k8s.io/kubernetes/test/e2e)
echo 'conformance: building its images'
rm -rf "$out/images"
"$here/images.sh" "$out/work" "$out/images"
echo "$key" >"$out/key"
