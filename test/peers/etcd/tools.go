//go:build tools

// Package etcd pins upstream's etcd, to be measured beside this project.
package etcd

import _ "go.etcd.io/etcd/server/v3"
