package container

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// allMounts are the kernel's file systems, then the container's own mounts, parents before children.
func allMounts(c Config, p Pod) ([]specs.Mount, error) {
	own := make([]specs.Mount, 0, len(c.Mounts))
	for _, m := range c.Mounts {
		sm, err := ociMount(m)
		if err != nil {
			return nil, err
		}
		own = append(own, sm)
	}
	// A stable sort by depth keeps the given order where depth is equal.
	slices.SortStableFunc(own, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	mounts := slices.DeleteFunc(kernelMounts(c, p), func(k specs.Mount) bool {
		return slices.ContainsFunc(own, func(m specs.Mount) bool { return m.Destination == k.Destination })
	})
	return append(mounts, own...), nil
}

func depth(p string) int { return strings.Count(p, "/") }

// kernelMounts are what every container sees, after runc's defaults. /dev/shm is the pod's.
func kernelMounts(c Config, p Pod) []specs.Mount {
	mode := "ro"
	if c.Security.Privileged {
		mode = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if p.Shm != "" {
		mounts = append(mounts, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: p.Shm, Options: []string{"rbind", "rw", "nosuid", "noexec", "nodev"}})
	}
	return append(mounts,
		specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", mode}},
	)
}

// ociMount translates one mount of the user.
func ociMount(m Mount) (specs.Mount, error) {
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return specs.Mount{}, fmt.Errorf("mount path %q must be absolute and not /", m.Target)
	}
	out := specs.Mount{Destination: path.Clean(m.Target), Options: slices.Clone(m.Options)}
	mode := "rw"
	if m.ReadOnly {
		mode = "ro"
		if m.Recursive {
			mode = "rro"
		}
	}
	if m.Source == "tmpfs" {
		out.Type, out.Source = "tmpfs", "tmpfs"
		out.Options = append(out.Options, "nosuid", "nodev", mode)
		return out, nil
	}
	if !path.IsAbs(m.Source) {
		return specs.Mount{}, fmt.Errorf("source %q of mount %s must be absolute", m.Source, m.Target)
	}
	out.Type, out.Source = "bind", m.Source
	switch m.Propagation {
	case "":
		out.Options = append(out.Options, "rbind", "rprivate", mode)
	case "rslave", "rshared":
		out.Options = append(out.Options, "rbind", m.Propagation, mode)
	default:
		return specs.Mount{}, fmt.Errorf("propagation %q of mount %s: must be empty, rslave or rshared", m.Propagation, m.Target)
	}
	return out, nil
}

// rootPropagation is the weakest propagation of the container's root that still lets its mounts do what they ask.
func rootPropagation(mounts []Mount) string {
	p := ""
	for _, m := range mounts {
		switch m.Propagation {
		case "rshared":
			return "rshared"
		case "rslave":
			p = "rslave"
		}
	}
	return p
}
