//go:build tools

// Package coredns pins the CoreDNS that is measured beside this project.
package coredns

import (
	_ "github.com/coredns/coredns"
)
