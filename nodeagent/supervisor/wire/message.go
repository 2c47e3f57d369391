package wire

import (
	"hardway/nodeagent/container"
)

// Pod is what a supervisor must know before its first container. The agent writes it to SupervisorFile.
type Pod struct {
	UID          string
	Hostname     string // set in the pod's UTS namespace; unused with HostNetwork
	HostNetwork  bool
	HostPID      bool
	HostIPC      bool
	ShareProcess bool
	Cgroup       string // path of the pod's cgroup below every hierarchy's root
	Sysctls      map[string]string
	Data         string // folder on disk for the writable layers of containers
}

// Op is what a request asks for.
type Op string

// Requests. Each says in brackets what the reply carries.
const (
	OpStatus   Op = "status"   // [Statuses]
	OpWatch    Op = "watch"    // [Statuses, then one Status per change until either side closes]
	OpStart    Op = "start"    // Start: create and start a container [Status]
	OpSignal   Op = "signal"   // ID, Signal; 9 reaches every process of the container
	OpRemove   Op = "remove"   // ID of an exited container
	OpExec     Op = "exec"     // ID, Exec and the descriptors it names [a reply when started, another with ExitCode at the end]
	OpAttach   Op = "attach"   // ID, Exec.Stdin/Stdout/Stderr and descriptors [a reply when attached, another at the end]
	OpResize   Op = "resize"   // ID, Size: of the container's own terminal
	OpDial     Op = "dial"     // Port: a TCP connection to the pod's loopback [one descriptor]
	OpShutdown Op = "shutdown" // kill every container, remove their mounts and cgroups, exit
)

// Request is the first message on a connection.
type Request struct {
	Op     Op
	ID     string         `json:",omitempty"`
	Signal int            `json:",omitempty"`
	Port   uint16         `json:",omitempty"`
	Size   container.Size `json:",omitzero"`
	Start  *Start         `json:",omitempty"`
	Exec   *Exec          `json:",omitempty"`
}

// Start is a container together with what the agent found out about its image.
type Start struct {
	Config  container.Config
	Layers  []string // folders of the image's layers, topmost first
	Seccomp []byte   // content of a Localhost profile
}

// Exec is a further process in a running container, or (Args empty) an attachment to its first. Without TTY a
// descriptor goes with the request for each of Stdin, Stdout and Stderr that is set, in this order; with TTY the
// terminal's master comes back with the first reply.
type Exec struct {
	Args                  []string       `json:",omitempty"`
	TTY                   bool           `json:",omitempty"`
	Size                  container.Size `json:",omitzero"`
	Stdin, Stdout, Stderr bool
}

// Reply answers a request.
type Reply struct {
	Error    string             `json:",omitempty"` // what went wrong, in words for the user; other fields may be set too
	Missing  bool               `json:",omitempty"` // the error is that there is no such container
	Status   *container.Status  `json:",omitempty"`
	Statuses []container.Status `json:",omitempty"`
	ExitCode int                `json:",omitempty"`
}

// Names of files in a pod's folder.
const (
	SocketFile     = "sock"            // where the supervisor listens
	LockFile       = "lock"            // locked by the living supervisor
	SupervisorFile = "supervisor.json" // a Pod
	LogFile        = "supervisor.log"  // complaints of the supervisor itself
	ContainersDir  = "containers"      // <id>.json: a container.Status each, written by the supervisor
	NamespacesDir  = "ns"              // net, ipc, uts: bind mounts that keep the namespaces
)

// MaxMessage bounds one message. A longer one is refused by both sides.
const MaxMessage = 8 << 20
