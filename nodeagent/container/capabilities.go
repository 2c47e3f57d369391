package container

import (
	"fmt"
	"slices"
	"strings"
)

// defaultCapabilities are the 14 a container has unless it asks otherwise: what Docker and containerd grant.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// knownCapabilities are the names of capabilities(7), in the kernel's numbering: index 0 is capability 0.
var knownCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// CapabilityNames returns the names of the capabilities in mask, bit n being capability n (as in CapBnd of
// /proc/<pid>/status).
func CapabilityNames(mask uint64) []string {
	var names []string
	for n, name := range knownCapabilities {
		if mask&(1<<n) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Capabilities is what s grants, sorted. available is what the host itself may grant; privileged and "ALL" mean that
// much. Adding goes before dropping, and the two "ALL" go before single names, as Kubernetes users expect.
func Capabilities(s Security, available []string) ([]string, error) {
	if s.Privileged {
		return slices.Sorted(slices.Values(available)), nil
	}
	set := map[string]bool{}
	for _, c := range defaultCapabilities {
		set[c] = true
	}
	if hasAll(s.AddCapabilities) {
		for _, c := range available {
			set[c] = true
		}
	}
	if hasAll(s.DropCapabilities) {
		clear(set)
	}
	if err := eachCapability(s.AddCapabilities, func(c string) { set[c] = true }); err != nil {
		return nil, err
	}
	if err := eachCapability(s.DropCapabilities, func(c string) { delete(set, c) }); err != nil {
		return nil, err
	}
	names := []string{}
	for c := range set {
		if !slices.Contains(available, c) {
			if slices.Contains(defaultCapabilities, c) {
				continue // the node itself runs with less; nothing was asked for by name
			}
			return nil, fmt.Errorf("capability %s cannot be added: this node does not have it itself", strings.TrimPrefix(c, "CAP_"))
		}
		names = append(names, c)
	}
	slices.Sort(names)
	return names, nil
}

func hasAll(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, "ALL") })
}

// eachCapability calls f with the full name of every single capability in names.
func eachCapability(names []string, f func(string)) error {
	for _, n := range names {
		full := strings.ToUpper(n)
		if full == "ALL" {
			continue
		}
		if !strings.HasPrefix(full, "CAP_") {
			full = "CAP_" + full
		}
		if !slices.Contains(knownCapabilities, full) {
			return fmt.Errorf("unknown capability %q", n)
		}
		f(full)
	}
	return nil
}
