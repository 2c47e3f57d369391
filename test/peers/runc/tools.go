//go:build tools

// Package runc pins the program with which containerd starts containers.
package runc

import (
	_ "github.com/opencontainers/runc"
)
