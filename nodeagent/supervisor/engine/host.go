package engine

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
)

// hostFacts gathers what container.Compile needs to know.
func hostFacts(c container.Config, localhostProfile []byte) (container.Host, error) {
	caps, err := ownCapabilities()
	if err != nil {
		return container.Host{}, err
	}
	h := container.Host{Capabilities: caps, CgroupV2: cgroups.IsCgroup2UnifiedMode(), MinOOMScore: minOOMScore(caps)}
	if h.CgroupV2 {
		controllers, err := cgroups.GetAllSubsystems()
		if err != nil {
			return h, fmt.Errorf("list cgroup controllers: %w", err)
		}
		h.OOMGroup = slices.Contains(controllers, "memory")
	}
	if h.Devices, err = devices(c); err != nil {
		return h, err
	}
	granted, err := container.Capabilities(c.Security, caps)
	if err != nil {
		return h, err
	}
	h.Seccomp, err = seccompProfile(c.Security, localhostProfile, granted)
	return h, err
}

// ownCapabilities are those this process can hand on.
func ownCapabilities() ([]string, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	mask := ^uint64(0)
	for line := range strings.Lines(string(b)) {
		name, hex, _ := strings.Cut(line, ":")
		if name != "CapBnd" && name != "CapPrm" {
			continue
		}
		v, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read own capabilities: %w", err)
		}
		mask &= v
	}
	return container.CapabilityNames(mask), nil
}

// minOOMScore is the lowest oom_score_adj this process may set: any with CAP_SYS_RESOURCE, else its own.
func minOOMScore(caps []string) int {
	if slices.Contains(caps, "CAP_SYS_RESOURCE") {
		return -1000
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// devices are those that the container is given: to the privileged all of the node and, where they are not among these,
// the ones that it names.
func devices(c container.Config) ([]container.HostDevice, error) {
	out, err := namedDevices(c.Devices)
	if err != nil || !c.Security.Privileged {
		return out, err
	}
	all, err := devicesBelow("/dev")
	for _, d := range all {
		if !slices.ContainsFunc(out, func(have container.HostDevice) bool { return have.Path == d.Path }) {
			out = append(out, container.HostDevice{LinuxDevice: d, Access: "rwm"})
		}
	}
	return out, err
}

// namedDevices describes the devices at the given host paths; a folder stands for the devices in it.
func namedDevices(wanted []container.Device) ([]container.HostDevice, error) {
	var out []container.HostDevice
	for _, w := range wanted {
		host, err := filepath.EvalSymlinks(w.Host)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", w.Host, err)
		}
		found, err := devicesBelow(host)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", w.Host, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("device %s: not a device", w.Host)
		}
		for _, d := range found {
			d.Path = cmp.Or(w.Path, w.Host) + strings.TrimPrefix(d.Path, host)
			out = append(out, container.HostDevice{LinuxDevice: d, Access: cmp.Or(w.Access, "rwm")})
		}
	}
	return out, nil
}

// devicesBelow lists device nodes at or below a path. Those that every container has of its own are left out.
func devicesBelow(top string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && p == top:
			return err
		case err != nil:
			return nil //nolint:nilerr // what came and went, or is not ours to see, is no device
		case d.IsDir() && ownOfContainer[p]:
			return fs.SkipDir
		case d.IsDir() || ownOfContainer[p]:
			return nil
		}
		if dev, ok := device(p); ok {
			out = append(out, dev)
		}
		return nil
	})
	return out, err
}

var ownOfContainer = map[string]bool{
	"/dev/pts": true, "/dev/shm": true, "/dev/fd": true, "/dev/mqueue": true, "/dev/console": true, "/dev/ptmx": true,
	"/dev/.lxc": true, "/dev/.lxd-mounts": true, "/dev/.udev": true,
}

func device(p string) (specs.LinuxDevice, bool) {
	var st unix.Stat_t
	if unix.Lstat(p, &st) != nil {
		return specs.LinuxDevice{}, false
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, false
	}
	mode := fs.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: p, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, true
}

// oomKills reads the kernel's count from a container's cgroup, whichever version it is of.
func oomKills(paths map[string]string) uint64 {
	count := func() (uint64, error) { return fs2.OOMKillCount(paths[""]) }
	if p, ok := paths["memory"]; ok {
		count = func() (uint64, error) { return cgroupfs.OOMKillCount(p) }
	}
	n, err := count()
	if err != nil {
		return 0
	}
	return n
}

// warmCgroups moves this process where it is already. Before it moves any process, the kernel waits until every CPU has
// passed a quiet point (an RCU grace period, some 10 ms), and does not wait again shortly after. Done beside the
// preparations of a container, this takes that wait out of its way. Without success the start is only slower.
func warmCgroups() {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for hierarchy, at := range own {
		dir := filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(hierarchy, "name="), at)
		if cgroups.WriteCgroupProc(dir, os.Getpid()) == nil {
			return
		}
	}
}
