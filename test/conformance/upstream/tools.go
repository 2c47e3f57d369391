//go:build tools

// Package upstream names what build.sh and images.sh compile of upstream's, so that go.mod pins it.
package upstream

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo" // brought in by the suite; named so that its version is pinned
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
	_ "k8s.io/kubernetes/test/images/nonewprivs"
	_ "k8s.io/kubernetes/test/images/regression-issue-74839"
)
