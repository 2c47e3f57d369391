// Package runtime runs pods on this node's kernel. Callers say what a pod and its containers are (PodConfig,
// ContainerConfig) and read back what really is there (PodStatus, Status). Every call may be repeated after a crash;
// nothing is remembered here that is not on disk below the state directory or in a living supervisor.
//
// A pod is a sandbox and its containers. The sandbox is one small process, the pod's supervisor (package supervisor),
// in the pod's own namespaces; there is no pause container and no other runtime. This package makes the sandbox (package
// sandbox), its cgroup (cgroup) and its network (network), finds the layers of images (image), and asks the supervisor
// for the rest:
//
//	node agent                                     pod supervisor (one per pod, survives the agent)
//	  EnsurePod       starts it, in new namespaces   mounts roots, runs libcontainer, holds stdio, writes logs,
//	  StartContainer  ── unix socket (wire) ──▶      records exits on disk, reports them at once
//	  Events          ◀──────────────────────
//
// On disk, below StateDir/pods/<uid>: pod.json, written here; the files named in package wire, written by the supervisor;
// ns/, which keeps the namespaces reachable. Below DataDir/<uid>: the writable layers.
//
// When the agent dies nothing else does: Open finds the supervisors again. When a supervisor dies its pod is lost: its
// containers are killed and reported as exited, and EnsurePod makes a new sandbox under the same records.
package runtime
