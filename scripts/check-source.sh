#!/usr/bin/env bash
# Everything that can be said about the source without running it. All checks run; the exit status tells whether one
# failed.
#
#   check-source.sh MODULE...      (ONLY="gofmt vet": only these)
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
modules=("$@")
tags=seccomp,netgo,osusergo,e2e
tools=$build/tools
lint_version=v2.15.0
vuln_version=v1.9.0
failed=''

check() { # NAME COMMAND...
  local name=$1 start
  shift
  [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $name "* ]] || return 0
  start=$(now)
  echo "== $name"
  "$@" || { failed+=" $name"; echo "== $name: FAILED"; }
  echo "== $name: $(seconds $(($(now) - start))) s"
}

formatted() {
  local files
  files=$(gofmt -s -l "${modules[@]}")
  [ -z "$files" ] || { printf 'gofmt -s would change:\n%s\n' "$files"; return 1; }
}
in_each() { # COMMAND...: in every module's folder, without the workspace
  local m status=0
  for m in "${modules[@]}"; do
    (cd "$m" && GOWORK=off "$@") || { echo "in module $m: $*"; status=1; }
  done
  return $status
}
vet() { in_each go vet -tags $tags ./...; }
# tool builds a pinned program once.
tool() { # NAME PACKAGE VERSION
  [ -x "$tools/$1-$3" ] || { GOWORK=off GOBIN="$tools" go install "$2@$3" && mv "$tools/$1" "$tools/$1-$3"; }
}
lint() {
  local m status=0
  tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint $lint_version || return
  for m in "${modules[@]}"; do
    (cd "$m" && "$tools/golangci-lint-$lint_version" run --config "$root/.golangci.yml" ./...) || status=1
  done
  return $status
}
vulnerabilities() {
  local database=https://vuln.go.dev
  curl -sfI --max-time 5 $database/index/db.json >/dev/null || { echo "skipped: $database cannot be reached"; return 0; }
  tool govulncheck golang.org/x/vuln/cmd/govulncheck $vuln_version || return
  in_each "$tools/govulncheck-$vuln_version" -tags $tags ./...
}
arch() { go test -count=1 ./test/arch; }

check gofmt formatted
check vet vet
check tidy in_each go mod tidy -diff
check build-alone in_each go build -tags $tags ./...
check arch arch
check lint lint
check vulnerabilities vulnerabilities
[ -z "$failed" ] || { echo "make check: failed:$failed" >&2; exit 1; }
