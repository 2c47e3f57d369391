package plan

import (
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/runtime"
)

// Input is everything Next looks at. It changes none of it.
type Input struct {
	Pod      *corev1.Pod
	Gone     bool               // no longer in the API: kill, clean up, forget
	Observed *runtime.PodStatus // nil: no sandbox on this node
	Facts    *Facts
	Settings Settings
	Now      time.Time
}

// Settings are the node's rules that do not differ from pod to pod.
type Settings struct {
	RestartDelay    time.Duration // before the second restart; doubles with each further one
	MaxRestartDelay time.Duration
	ResetAfter      time.Duration // a container that ran this long starts again at RestartDelay
	NetworkReady    bool          // pods with a network of their own may start
}

// DefaultSettings returns the delays of KEP-4603's reduced curve: 1 s doubling to 60 s, forgotten after 10 minutes.
func DefaultSettings() Settings {
	return Settings{RestartDelay: time.Second, MaxRestartDelay: time.Minute, ResetAfter: 10 * time.Minute, NetworkReady: true}
}

// Facts is what the worker knows about a pod beyond the API object and the kernel. It lives in memory only: after a
// restart of the agent it is rebuilt, and the rules above hold without it.
type Facts struct {
	Failure    *Failure // the pod has been given up for a reason of its own; never taken back
	Sandbox    Step
	Volumes    Step
	Mounted    bool                  // volumes may be set up on disk
	Containers map[string]*Container // by container name
	Kills      map[string]*Kill      // by container id
	Hooks      map[string]Hook       // postStart, by container id
	Health     map[string]Health     // probes, by container id
	Resize     Resize
	Removing   map[string]bool // containers being removed, by id
	Ended      time.Time       // when the pod began to end; zero while it runs
	EndGrace   time.Duration   // how long it may take to end when the node ends it; 0: as long as it wishes
	Reported   bool            // the final status is stored in the API
	Deleting   bool            // the API object is being deleted
	Cleanup    Step            // sandbox and volumes being taken down
}

// Resize is how far a change of the pod's resources has come. The pod that Next sees has what is allocated to it.
type Resize struct {
	Pending    *Failure                               // why the wish is not granted; nil: it is, or there is none
	Enforced   map[string]corev1.ResourceRequirements // what the kernel enforces, by id of the running container
	Pod        *corev1.ResourceRequirements           // the same for the whole pod, where that has resources of its own
	Step       Step                                   // the change being made
	Error      string                                 // why it could not be made
	Generation int64                                  // of the pod whose wish this is about
}

// Failure is why a pod fails as a whole; it becomes status.reason and status.message.
type Failure struct{ Reason, Message string }

// Step is something done once for the whole pod. It is tried again at Retry after it failed.
type Step struct {
	Busy, Done bool
	Failures   int
	Retry      time.Time
}

// Container is what is remembered about one container between its instances.
type Container struct {
	Busy     bool          // an instance is being started (the image may be on its way)
	Waiting  Waiting       // why the last start did not work; zero when it did
	Retry    time.Time     // not before this
	NoteAt   time.Time     // when an unsuccessful pull turns into ImagePullBackOff; zero: it is not one
	Failures int           // starts that failed in a row
	Delay    time.Duration // crash back-off that applies to the next restart
	Last     time.Time     // when the last instance was started
	Noted    string        // id of the instance whose back-off has been announced
}

// Waiting is the state of a container that does not run, in the API's words.
type Waiting struct{ Reason, Message string }

// Kill is a container on its way out.
type Kill struct {
	Began   time.Time
	Grace   time.Duration
	PreStop bool      // its hook is running
	Term    time.Time // when SIGTERM was sent; zero: not yet
	Kill    time.Time // when SIGKILL was sent last
	Restart bool      // killed to be started again, whatever its exit code is
	Resize  bool      // killed for new resources: no back-off
	Waiting Waiting   // shown when it waits for its restart
}

// Hook is how far a postStart hook has come.
type Hook string

// States of a postStart hook.
const (
	HookRunning Hook = "running"
	HookDone    Hook = "done"
	HookFailed  Hook = "failed"
)

// Health is what the probes of a container instance say. The zero value says nothing is known yet.
type Health struct {
	Started       bool // startup probe passed, or there is none
	Ready         bool // readiness probe passes, or there is none
	NotLive       bool // liveness probe failed often enough
	StartupFailed bool // startup probe failed often enough
}

// Plan is the answer of Next.
type Plan struct {
	Actions  []Action
	Wake     time.Time          // ask again at this time even if nothing happens; zero: no need
	Waiting  map[string]Waiting // why containers do not run, by name; absent: the ordinary reason
	Ending   bool               // nothing new may start; starts under way are to be cancelled
	Terminal bool               // nothing runs and nothing will: the status is final
	Done     bool               // nothing is left of the pod on this node and in the API
}

// Action is one thing to do. The concrete types say what.
type Action interface{ action() }

// The actions, in the order of a pod's life.
type (
	// MakeSandbox creates namespaces, cgroup, network and supervisor, in the place of a sandbox that died if there is one.
	MakeSandbox struct{}
	// MountVolumes sets all volumes up.
	MountVolumes struct{}
	// StartContainer pulls the image if it must and starts an instance. Delay is the back-off of the restart after it.
	StartContainer struct {
		Container *corev1.Container
		Attempt   int
		Delay     time.Duration
	}
	// NotePullBackOff tells the user that pulling is being retried later.
	NotePullBackOff struct{ Container *corev1.Container }
	// NoteCrashBackOff tells the user that a restart is being delayed.
	NoteCrashBackOff struct {
		Container *corev1.Container
		ID        string
	}
	// RunPostStart runs the hook of a container that has just started.
	RunPostStart struct {
		Container *corev1.Container
		ID        string
	}
	// BeginKill announces the end of a container and runs its preStop hook if it has one.
	BeginKill struct {
		Container *corev1.Container
		ID        string
		Grace     time.Duration
		Message   string // of the Killing event
		Restart   bool
		Resize    bool
		Waiting   Waiting
	}
	// ResizeContainers makes the kernel enforce what is allocated to the pod's running containers.
	ResizeContainers struct{}
	// Signal sends a signal to the container's process.
	Signal struct {
		ID     string
		Signal syscall.Signal
	}
	// RemoveContainer forgets an exited instance that nobody can ask for any more.
	RemoveContainer struct {
		Container string
		ID        string
		Attempt   int
		Log       string
	}
	// FailPod gives the pod up.
	FailPod struct{ Failure Failure }
	// CleanUp removes sandbox and volumes from the node.
	CleanUp struct{}
	// DeletePod removes the object from the API.
	DeletePod struct{}
)

func (MakeSandbox) action()      {}
func (MountVolumes) action()     {}
func (StartContainer) action()   {}
func (NotePullBackOff) action()  {}
func (NoteCrashBackOff) action() {}
func (RunPostStart) action()     {}
func (BeginKill) action()        {}
func (Signal) action()           {}
func (RemoveContainer) action()  {}
func (ResizeContainers) action() {}
func (FailPod) action()          {}
func (CleanUp) action()          {}
func (DeletePod) action()        {}
