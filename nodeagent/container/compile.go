package container

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Pod is the part of a container's surroundings that it shares with the rest of its pod. An empty namespace path means
// the host's own namespace.
type Pod struct {
	NetNS, IPCNS, UTSNS string
	PIDNS               string // the shared PID namespace; with HostPID unset and this empty the container gets its own
	HostPID             bool
	Shm                 string // directory that becomes /dev/shm
	Cgroup              string // absolute path below every hierarchy's root
}

// Host is what Compile must know about the node.
type Host struct {
	Capabilities []string // what the supervisor itself may grant
	Devices      []HostDevice
	CgroupV2     bool
	OOMGroup     bool                // cgroup v2 with a memory controller
	Seccomp      *specs.LinuxSeccomp // the profile that Config.Security.Seccomp names, nil for none
	MinOOMScore  int                 // lowest oom_score_adj that may be set
}

// HostDevice is a device node as it is made in the container, and what may be done with it.
type HostDevice struct {
	specs.LinuxDevice
	Access string
}

// Compile writes the OCI spec of a container: c in the pod p on the host h, with the root file system at root. User
// and group names are not resolved here (they need the mounted root); the caller fills Process.User. Mounts with a
// SubPath must have been resolved by the caller into Source.
func Compile(c Config, p Pod, h Host, root string) (*specs.Spec, error) {
	if len(c.Args) == 0 {
		return nil, fmt.Errorf("no command specified: neither the container nor its image says what to run")
	}
	caps, err := Capabilities(c.Security, h.Capabilities)
	if err != nil {
		return nil, err
	}
	mounts, err := allMounts(c, p)
	if err != nil {
		return nil, err
	}
	oom := max(c.Resources.OOMScoreAdj, h.MinOOMScore)
	spec := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: root, Readonly: c.Security.ReadOnlyRoot},
		Process: &specs.Process{
			Terminal:        c.TTY,
			Args:            c.Args,
			Env:             environment(c),
			Cwd:             workDir(c.Dir),
			NoNewPrivileges: c.Security.NoNewPrivileges,
			OOMScoreAdj:     &oom,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: mounts,
		Linux: &specs.Linux{
			Namespaces:        namespaces(p, h),
			CgroupsPath:       path.Join("/", p.Cgroup),
			Resources:         resources(c.Resources, h.OOMGroup),
			Seccomp:           h.Seccomp,
			RootfsPropagation: rootPropagation(c.Mounts),
		},
	}
	setDevices(spec, c, h)
	if !c.Security.Privileged && !c.Security.UnmaskedProc {
		spec.Linux.MaskedPaths = slices.Clone(maskedPaths)
		spec.Linux.ReadonlyPaths = slices.Clone(readonlyPaths)
	}
	return spec, nil
}

// maskedPaths and readonlyPaths are what a container must not see or not write of the host's /proc and /sys: the
// defaults of runc and Docker.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func workDir(dir string) string {
	if dir == "" {
		return "/"
	}
	return path.Join("/", dir)
}

// environment is c.Env (the last of several equal names wins) and what every container needs besides.
func environment(c Config) []string {
	defaults := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if c.Hostname != "" {
		defaults = append(defaults, "HOSTNAME="+c.Hostname)
	}
	if c.TTY {
		defaults = append(defaults, "TERM=xterm")
	}
	return MergeEnv(defaults, c.Env)
}

// MergeEnv joins lists of "K=V"; a later list, and a later entry, wins. The order of first appearance is kept.
func MergeEnv(lists ...[]string) []string {
	at := map[string]int{}
	var out []string
	for _, kv := range slices.Concat(lists...) {
		k, _, _ := strings.Cut(kv, "=")
		if i, ok := at[k]; ok {
			out[i] = kv
			continue
		}
		at[k] = len(out)
		out = append(out, kv)
	}
	return out
}

// namespaces lists those a container does not share with the host. The mount namespace is always its own.
func namespaces(p Pod, h Host) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	shared := map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: p.NetNS, specs.IPCNamespace: p.IPCNS, specs.UTSNamespace: p.UTSNS,
	}
	for _, t := range slices.Sorted(maps.Keys(shared)) {
		if shared[t] != "" {
			ns = append(ns, specs.LinuxNamespace{Type: t, Path: shared[t]})
		}
	}
	if !p.HostPID {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: p.PIDNS})
	}
	if h.CgroupV2 {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

func resources(r Resources, oomGroup bool) *specs.LinuxResources {
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{}}
	if r.CPUShares > 0 {
		out.CPU.Shares = &r.CPUShares
	}
	if r.CPUQuota > 0 {
		out.CPU.Quota = &r.CPUQuota
	}
	if r.CPUPeriod > 0 {
		out.CPU.Period = &r.CPUPeriod
	}
	if r.MemoryLimit > 0 {
		// The same limit for memory and memory+swap: a container never swaps.
		out.Memory = &specs.LinuxMemory{Limit: &r.MemoryLimit, Swap: &r.MemoryLimit}
	}
	if r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	if oomGroup {
		// Kubernetes on cgroup v2 kills the whole container when one of its processes runs out of memory.
		out.Unified = map[string]string{"memory.oom.group": "1"}
	}
	return out
}

// setDevices grants devices: everything to the privileged, otherwise the harmless defaults that the engine adds to
// every container and those asked for.
func setDevices(spec *specs.Spec, c Config, h Host) {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	if c.Security.Privileged {
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	for _, d := range h.Devices {
		spec.Linux.Devices = append(spec.Linux.Devices, d.LinuxDevice)
		if !c.Security.Privileged {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: d.Access})
		}
	}
	spec.Linux.Resources.Devices = rules
}
