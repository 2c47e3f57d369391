package runtime

import (
	"io"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/cgroup"
	"hardway/nodeagent/container"
	"hardway/nodeagent/network"
)

// The types of a single container are declared, with all their fields, in package container, since the pod supervisor
// shares them.
type (
	// ContainerConfig describes one container completely. Args, Env, Dir, User and StopSignal are completed from the
	// image where they are empty: Args by its entrypoint and command, Env by those of its variables that Env lacks.
	ContainerConfig = container.Config
	// Mount is a bind mount of a host path, or a tmpfs when Source is "tmpfs".
	Mount = container.Mount
	// Device is a device of the node that a container may use.
	Device = container.Device
	// Resources are cgroup settings; zero means no limit.
	Resources = container.Resources
	// Security is what a container may do beyond, or not even as, an ordinary root process in its namespaces.
	Security = container.Security
	// Status is one container as its supervisor knows it. It outlives the process until RemoveContainer.
	Status = container.Status
	// State is where a container is in its life.
	State = container.State
	// Size is a terminal's size in characters.
	Size = container.Size
	// HostPort sends a port of the node to a port of the pod.
	HostPort = network.HostPort
	// Usage is what a pod or container uses of CPU and memory.
	Usage = cgroup.Usage
)

// States of a container.
const (
	Created = container.Created
	Running = container.Running
	Exited  = container.Exited
)

// PodConfig is everything the containers of a pod share. It is written once, when the sandbox is made.
type PodConfig struct {
	UID             types.UID
	Namespace, Name string

	Hostname     string // UTS name of the pod; unused with HostNetwork
	HostNetwork  bool
	HostPID      bool
	HostIPC      bool
	ShareProcess bool // one PID namespace for all containers

	CgroupParent string            // the pod's cgroup, a path below every hierarchy's root, such as "hardway/burstable/pod<uid>"
	Resources    Resources         // limits of the pod's own cgroup
	Sysctls      map[string]string // namespaced kernel settings; others are refused
	HostPorts    []HostPort
}

// PodStatus is what is there of a pod on this node, read from its supervisor and from disk, not from memory.
type PodStatus struct {
	Config     PodConfig
	IPs        []netip.Addr // empty with HostNetwork
	CreatedAt  time.Time
	Alive      bool // the supervisor answers; false: its containers are lost (and reported as Exited)
	Containers []Status
}

// PodStats is what a pod uses: all of it, and by container id.
type PodStats struct {
	Pod        Usage
	Containers map[string]Usage
}

// Event says that a container of a pod changed state, or that its supervisor vanished (Container empty).
type Event struct {
	UID       types.UID
	Container Status
}

// Streams are the standard streams of an exec or attach; nil ones are closed. Resize carries terminal sizes.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.WriteCloser
	TTY            bool
	Resize         <-chan Size
}
