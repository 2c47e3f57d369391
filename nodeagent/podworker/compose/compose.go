// Package compose translates a pod as the API describes it into what the runtime needs to know: one configuration for
// the pod, and one for each container instance. It is pure apart from looking up referenced objects; files that the
// containers see (hosts, resolv.conf, hostname) are returned as text for the worker to write.
//
// What the runtime cannot do is an error here or a refusal in package admit; nothing is dropped on the way.
package compose

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/volume/payload"
)

// Node is what is the same for every pod of the node.
type Node struct {
	fields.Node
	Hostname       string
	MemoryCapacity int64  // bytes
	CgroupRoot     string // such as "hardway"
	LogDir         string // such as /var/log/pods
	SeccompDir     string // profiles of type Localhost are relative to it
	SeccompDefault bool   // RuntimeDefault where the pod says nothing
	CPUQuota       bool   // enforce cpu limits
	CPUPeriod      uint64 // microseconds
	PidsLimit      int64  // per pod; 0: none
	LogMaxBytes    int64  // size at which a container's log is rotated
	LogMaxFiles    int    // files kept of a container's log
	DNS            DNS
}

// Image is the part of an image that a pod's wishes are combined with; the runtime adds the rest.
type Image struct {
	ID                  string
	Entrypoint, Command []string
	User                string
}

// Pod is a pod together with what is decided about it on the node.
type Pod struct {
	*corev1.Pod
	IPs      []string          // addresses of the pod; the node's with hostNetwork
	Dir      string            // folder of the pod
	Volumes  map[string]string // host path by volume name
	Services []*corev1.Service // those whose environment variables the pod gets
	Objects  payload.Objects
}

// PodConfig returns the configuration of the pod's sandbox.
func PodConfig(pod *corev1.Pod, node Node) (runtime.PodConfig, error) {
	hostname, _, err := Hostname(pod, node)
	if err != nil {
		return runtime.PodConfig{}, err
	}
	c := runtime.PodConfig{
		UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name, Hostname: hostname,
		HostNetwork: pod.Spec.HostNetwork, HostPID: pod.Spec.HostPID, HostIPC: pod.Spec.HostIPC,
		ShareProcess: pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace,
		CgroupParent: CgroupParent(pod, node), Resources: PodResources(pod, node), Sysctls: sysctls(pod),
	}
	c.HostPorts, err = hostPorts(pod)
	return c, err
}

// sysctls are the pod's own, on top of two that let an unprivileged process listen on any port and send pings, as
// containerd's defaults do.
func sysctls(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	if !pod.Spec.HostNetwork {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		out["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	if s := pod.Spec.SecurityContext; s != nil {
		for _, c := range s.Sysctls {
			out[c.Name] = c.Value
		}
	}
	return out
}

func hostPorts(pod *corev1.Pod) ([]runtime.HostPort, error) {
	if pod.Spec.HostNetwork {
		return nil, nil
	}
	var out []runtime.HostPort
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, p := range list[i].Ports {
				if p.HostPort == 0 {
					continue
				}
				h := runtime.HostPort{HostPort: uint16(p.HostPort), ContainerPort: uint16(p.ContainerPort), Protocol: string(p.Protocol)}
				if p.HostIP != "" {
					ip, err := netip.ParseAddr(p.HostIP)
					if err != nil {
						return nil, fmt.Errorf("container %s: hostIP %q: %w", list[i].Name, p.HostIP, err)
					}
					h.HostIP = ip
				}
				out = append(out, h)
			}
		}
	}
	return out, nil
}

// Container returns the configuration of one container instance.
func Container(ctx context.Context, pod Pod, c *corev1.Container, attempt int, image Image, node Node) (runtime.ContainerConfig, error) {
	env, err := environment(ctx, pod, c, node)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	user, err := runAs(pod.Pod, c, image)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	security, err := securityOf(pod.Pod, c, node)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	mounts, err := mountsOf(pod, c, attempt, env.lookup)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	devices, err := devicesOf(pod, c)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	id, err := newID()
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	hostname, _, err := Hostname(pod.Pod, node)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	cfg := runtime.ContainerConfig{
		ID: id, Name: c.Name, Attempt: attempt, Image: image.ID,
		Args: arguments(c, image, env.lookup), Env: env.list(), Dir: c.WorkingDir,
		User: user, Groups: groups(pod.Pod), StrictGroups: strictGroups(pod.Pod), Hostname: hostname, Mounts: mounts, Devices: devices,
		Resources: ContainerResources(pod.Pod, c, node), Security: security,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
		LogPath:     LogPath(node.LogDir, pod.Namespace, pod.Name, pod.UID, c.Name, attempt),
		LogMaxBytes: node.LogMaxBytes, LogMaxFiles: node.LogMaxFiles,
	}
	cfg.StopSignal, err = StopSignal(c)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	if len(cfg.Args) == 0 {
		return runtime.ContainerConfig{}, fmt.Errorf("no command specified")
	}
	return cfg, nil
}

// newID returns 64 random hex digits.
func newID() (string, error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make container id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// arguments combines the pod's command and args with the image's: command replaces both of the image's, args only the
// image's arguments.
func arguments(c *corev1.Container, image Image, lookup func(string) (string, bool)) []string {
	command, args := image.Entrypoint, image.Command
	if len(c.Command) > 0 {
		command, args = expandAll(c.Command, lookup), nil
	}
	if len(c.Args) > 0 {
		args = expandAll(c.Args, lookup)
	}
	out := make([]string, 0, len(command)+len(args))
	return append(append(out, command...), args...)
}

// LogDir is the folder of a pod's logs: <namespace>_<name>_<uid>, as log collectors expect it.
func LogDir(root, namespace, name string, uid types.UID) string {
	return filepath.Join(root, namespace+"_"+name+"_"+string(uid))
}

// LogPath is the log file of one container instance.
func LogPath(root, namespace, name string, uid types.UID, container string, attempt int) string {
	return filepath.Join(LogDir(root, namespace, name, uid), container, strconv.Itoa(attempt)+".log")
}
