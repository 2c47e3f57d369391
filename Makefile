# Hardway: see README.md. 'make help' lists what can be made.
GO ?= $(firstword $(shell command -v go) $(wildcard /usr/local/go/bin/go) go)
export PATH := $(PATH):$(dir $(GO))
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

build   := $(CURDIR)/.hardway
daemons := apiserver scheduler controllers nodeagent netproxy dns
modules := shared $(daemons) kubectl test
NODES   ?=
PAGE    ?= docs/the-hard-way.md

# Which Kubernetes is spoken and built stands in shared/version and kubectl/go.mod.
version    := $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
kubernetes := $(shell sed -n 's/^const Kubernetes = "\(.*\)"/\1/p' shared/version/version.go)
minor      := $(word 2,$(subst ., ,$(kubernetes)))
ldflags    := -s -w -X hardway/shared/version.Hardway=$(version) \
  $(foreach p,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
    -X $(p).gitVersion=$(kubernetes) -X $(p).gitMajor=1 -X $(p).gitMinor=$(minor) -X $(p).gitTreeState=clean)
# seccomp: the node agent filters system calls (libseccomp, cgo). The others have no C in them and so are static.
tags       := seccomp,netgo,osusergo

.PHONY: lab-robustness help up down import build dist test test-hardway robustness robustness-control-plane failover test-unit test-e2e check deps clean conformance interop bench
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

deps: ## install the Debian packages that are missing
	@scripts/deps.sh

build: ## build every binary and the sample's images into .hardway/
	@mkdir -p $(build)/bin $(build)/build
	@$(GO) build -trimpath -buildvcs=false -tags $(tags) -ldflags '$(ldflags)' -o $(build)/build/ \
	  $(daemons:%=./%) ./nodeagent/supervisor/hardway-supervisor ./test/images ./test/images/hello ./test/leftovers
	@cd kubectl && GOWORK=off CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(ldflags)' -o $(build)/build/kubectl .
	@cd $(build)/build && for d in $(daemons); do ln -f $$d ../bin/hardway-$$d; done && ln -f kubectl hardway-supervisor ../bin/
	@$(build)/build/images -hello $(build)/build/hello -out $(build)/images

up: ## [NODES=n] a running cluster on this machine, with a sample (as root)
	@NODES='$(NODES)' scripts/up.sh

down: ## stop it: no process, mount, link, rule or cgroup stays (as root)
	@scripts/down.sh

import: ## IMAGES="a.tar ...": bring images into every node of the cluster (as root)
	@scripts/import.sh $(IMAGES)

clean: down ## make down, and remove .hardway
	@rm -rf $(build)

test: deps test-unit test-e2e ## everything: unit, integration, end to end (as root)

test-unit: # the unit and integration tests of all modules
	@[ "$$(id -u)" = 0 ] || echo "make test: not root: tests that need it are skipped, and the end-to-end tests will fail"
	$(GO) test -race -shuffle=on -p 2 -tags $(tags) $(modules:%=./%/...)

test-e2e: build # against a cluster that the tests bring up and take down
	@[ "$$(id -u)" = 0 ] || { echo "make test: the end-to-end tests need root: run 'sudo make test'" >&2; exit 1; }
	$(GO) test -trimpath -count=1 -timeout 15m -tags $(tags),e2e ./test/e2e/...

dist: build ## tarball, Debian packages, checksums and SBOM in .hardway/dist
	@scripts/dist.sh '$(version)' '$(kubernetes)'

# Machines of a test live and end in namespaces of their own.
lab := unshare --mount --net --pid --fork --kill-child --mount-proc env HARDWAY_LAB=$(build)/machines HARDWAY_PAGE=$(CURDIR)/$(PAGE)

test-hardway: dist ## [PAGE=file] docs/the-hard-way.md or another page, followed on machines with systemd (as root)
	@test/machines/base.sh $(build)/machines/base
	@$(GO) test -trimpath -c -tags hardway -o $(build)/build/hardway.test ./test/hardway
	@rm -rf $(build)/machines/run*
	@$(lab) HARDWAY_TARBALL=$$(echo $(build)/dist/*.tar.gz) $(build)/build/hardway.test -test.v -test.timeout 20m -test.run TheHardWay

robustness: dist ## [SEED=n] [MINUTES=n] random faults on those machines under recording clients, and checks of what they saw (as root)
	@$(MAKE) lab-robustness TEST=RandomFaults

robustness-control-plane: build ## [SEED=n] [MINUTES=n] the same for three API servers as processes of this machine, without nodes
	@$(GO) test -trimpath -c -tags robustness -o $(build)/build/robustness.test ./test/robustness
	@HARDWAY_BIN=$(build)/bin HARDWAY_SCRIPTS=$(CURDIR)/scripts SEED='$(SEED)' MINUTES='$(MINUTES)' \
	  $(build)/build/robustness.test -test.v -test.timeout $$((10 + $(or $(MINUTES),5)))m -test.run ControlPlane

failover: dist ## [MINUTES=n] how long clients wait when a daemon, a leader or a machine is gone, and rolling kills (as root)
	@$(MAKE) lab-robustness TEST=Failover
	@$(MAKE) lab-robustness TEST=RollingKills

lab-robustness:
	@test/machines/base.sh $(build)/machines/base
	@$(GO) test -trimpath -c -tags robustness -o $(build)/build/robustness.test ./test/robustness
	@rm -rf $(build)/machines/run*
	@$(lab) HARDWAY_TARBALL=$$(echo $(build)/dist/*.tar.gz) SEED='$(SEED)' MINUTES='$(MINUTES)' \
	  $(build)/build/robustness.test -test.v -test.timeout $$((30 + $(or $(MINUTES),5)))m -test.run '$(TEST)'

conformance: ## [FOCUS=regex] [AREA=name] [PARALLEL=n] upstream's conformance suite, on two nodes (as root)
	@AREA='$(AREA)' PARALLEL='$(PARALLEL)' test/conformance/run.sh '$(FOCUS)'

interop: ## [ONLY=regex] upstream's daemons among ours and ours among upstream's, storage that both write (as root)
	@test/interop/run.sh '$(ONLY)'

bench: ## [ONLY=area] [RUNS=n] this project beside upstream, into docs/benchmarks.md (as root)
	@RUNS='$(RUNS)' test/perf/run.sh $(ONLY)

check: ## everything that can be said without running it
	@scripts/check-source.sh $(modules)
