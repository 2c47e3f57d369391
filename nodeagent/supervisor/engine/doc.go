// Package engine runs containers with libcontainer. It is the only package that imports it, because libcontainer's own
// authors promise no stable interface: every change of theirs ends here. It mounts a container's root file system,
// resolves its user and its mounts, starts its first process and further ones, and removes what it made. Mounts are
// made in the mount namespace of the calling process, which must be private to the pod: they vanish with it.
//
// Programs that import this package re-execute themselves: `<program> init` must reach Init before anything else.
package engine

import (
	_ "github.com/opencontainers/cgroups/devices" // lets the cgroup managers limit devices
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before the Go runtime starts
)

// Init is the inner half of starting a process in a container. It replaces this process and never returns.
func Init() { libcontainer.Init() }
