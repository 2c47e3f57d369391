// Package container says what one container is and turns that into an OCI runtime spec. It is pure: it reads no file,
// starts no process and knows no host; what it needs to know about the host comes in as arguments. The node agent fills
// in a Config, the pod's supervisor compiles it with Compile and runs the result, and both speak of the outcome as a
// Status. Whatever cannot be honoured is an error with words for the user, never silently dropped.
package container

import (
	"syscall"
	"time"
)

// Config describes one container completely. Nothing is added to it but the kernel's ordinary mounts (/proc, /dev,
// /sys, ...), the pod's shared /dev/shm, and, where Env lacks them, PATH, HOSTNAME and (with TTY) TERM.
type Config struct {
	ID      string // unique on the node, 64 hex digits
	Name    string // container name in the pod spec
	Attempt int    // restarts before this one

	Image string // image id as returned by image.Store
	Args  []string
	Env   []string // "K=V"
	Dir   string   // working directory

	User         string // "uid[:gid]" or names of the image's /etc/passwd; "" is the image's user or root
	Groups       []int64
	StrictGroups bool   // the image gives the user no groups
	Target       string // id of a running container of the pod whose processes this one sees; "" for none
	Hostname     string
	Mounts       []Mount
	Devices      []Device
	Resources    Resources
	Security     Security
	StopSignal   syscall.Signal // 0: the image's STOPSIGNAL or SIGTERM

	TTY, Stdin, StdinOnce bool
	LogPath               string // CRI format log file; empty: output is not kept
	LogMaxBytes           int64  // size at which the log is rotated; 0: 10 MiB
	LogMaxFiles           int    // files kept, the current one included; 0: 5
}

// Mount is a bind mount of a host path, or a tmpfs when Source is "tmpfs".
type Mount struct {
	Source, Target string
	ReadOnly       bool
	Recursive      bool     // read-only applies to submounts too
	Propagation    string   // "", "rslave" or "rshared"
	SubPath        string   // resolved inside Source, never leaving it; a missing directory is made
	Options        []string // further mount options, such as "noexec" or (tmpfs) "size=64m"
}

// Device is a device of the node that a container may use.
type Device struct {
	Host   string // path on the node; a folder stands for the devices in it
	Path   string // in the container; empty: as on the node
	Access string // some of "rwm": read, write, make nodes; empty: all
}

// Resources are cgroup settings; zero means no limit.
type Resources struct {
	CPUShares   uint64 // cgroup v1 scale, 2..262144
	CPUQuota    int64  // microseconds per CPUPeriod
	CPUPeriod   uint64
	MemoryLimit int64 // bytes
	PidsLimit   int64
	OOMScoreAdj int // raised to what the node agent itself has when it may not go lower
}

// Security is what a container may do beyond, or not even as, an ordinary root process in its namespaces.
type Security struct {
	Privileged       bool
	AddCapabilities  []string // without "CAP_"; "ALL" for every one
	DropCapabilities []string
	NoNewPrivileges  bool
	ReadOnlyRoot     bool
	Seccomp          string // "", "RuntimeDefault", "Unconfined" or "Localhost:<path>"; "" is Unconfined
	UnmaskedProc     bool   // procMount: Unmasked
}

// State is where a container is in its life.
type State string

// States of a container.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
)

// Status is one container as its supervisor knows it. It outlives the process until the container is removed.
type Status struct {
	ID, Name, Image string
	Attempt         int
	State           State
	Pid             int
	CreatedAt       time.Time
	StartedAt       time.Time
	FinishedAt      time.Time
	ExitCode        int // 128+signal when killed; 126, 127 or 128 when it could not start
	Signal          int
	OOMKilled       bool
	Reason          string // why it could not start, or how its end was lost, in words for the user
	LogPath         string
	StopSignal      syscall.Signal // what asks it to end: the pod's choice, the image's, or SIGTERM
}

// Size is a terminal's size in characters.
type Size struct{ Width, Height uint16 }
