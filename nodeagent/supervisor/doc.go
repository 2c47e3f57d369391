// Package supervisor is the small process that stands over the containers of one pod. It lives in the pod's network,
// IPC and UTS namespaces and in a mount namespace of its own, is the parent of every container of the pod, holds their
// standard streams, writes their logs, and keeps how they ended on disk. The node agent starts it and talks to it over
// a socket in the pod's folder (package wire); when the agent dies, restarts or is replaced, the supervisor and its
// containers do not notice. When the supervisor itself dies its pod is lost: a new one started in the same folder finds
// the records of the containers and marks those that ran as lost.
//
// It reads SupervisorFile and writes ContainersDir, both below the pod's folder, and the log files the containers name.
// One lock (Supervisor.mu) guards the table of containers; everything slow happens outside it.
package supervisor
