// Package cgroup makes, limits, measures and removes the cgroups of pods, on cgroup v1 (every mounted controller) and v2
// alike. Names are paths below every hierarchy's root, such as "hardway/burstable/pod<uid>", and whoever gives the name
// decides what the tree looks like; missing parents are made. The cgroups of single containers are made by the pod's
// supervisor inside the pod's.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
)

// Ensure makes the cgroup name with the limits r. Repeated, it sets the limits anew.
func Ensure(name string, r container.Resources) error {
	m, err := open(name, r)
	if err == nil {
		err = m.Apply(-1)
	}
	if err == nil {
		set := settings(r)
		set.SkipDevices = true // they are limited per container
		err = m.Set(set)
	}
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", name, err)
	}
	return nil
}

// Update changes the limits of the cgroup name while processes run in it. Here 0 takes a limit away. With swap the
// limit of memory holds for memory and swap together, as containers have it.
func Update(name string, r container.Resources, swap bool) error {
	m, err := open(name, r)
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", name, err)
	}
	if !m.Exists() {
		return fmt.Errorf("cgroup %s: %w", name, os.ErrNotExist)
	}
	set := settings(r)
	set.SkipDevices = true
	if set.CpuQuota == 0 {
		set.CpuQuota = -1
	}
	if set.Memory == 0 {
		set.Memory = -1
	}
	if swap {
		set.MemorySwap = set.Memory
	}
	if err := m.Set(set); err != nil {
		return fmt.Errorf("cgroup %s: %w", name, err)
	}
	return nil
}

func open(name string, r container.Resources) (cgroups.Manager, error) {
	clean := path.Join("/", name)
	if clean == "/" {
		return nil, errors.New("no name given")
	}
	return manager.New(&cgroups.Cgroup{Path: clean, Resources: settings(r)})
}

// settings translates limits.
func settings(r container.Resources) *cgroups.Resources {
	out := &cgroups.Resources{
		CpuShares: r.CPUShares, CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares),
		CpuQuota: r.CPUQuota, CpuPeriod: r.CPUPeriod, Memory: r.MemoryLimit,
	}
	if r.PidsLimit > 0 {
		out.PidsLimit = &r.PidsLimit
	}
	return out
}

// Usage is what the processes of a cgroup and of those below it use.
type Usage struct {
	CPU        time.Duration // since the cgroup was made
	Memory     uint64        // bytes, page cache included
	WorkingSet uint64        // bytes, without cache that can be dropped at once
	RSS        uint64        // bytes of anonymous memory
	PageFaults uint64
	Processes  uint64
}

// Stats measures the cgroup name. The error wraps os.ErrNotExist when there is none.
func Stats(name string) (Usage, error) {
	m, err := open(name, container.Resources{})
	if err != nil {
		return Usage{}, fmt.Errorf("cgroup %s: %w", name, err)
	}
	if !m.Exists() {
		return Usage{}, fmt.Errorf("cgroup %s: %w", name, os.ErrNotExist)
	}
	s, err := m.Stats(&cgroups.StatsOptions{Controllers: cgroups.CPU | cgroups.Memory | cgroups.Pids})
	if err != nil {
		return Usage{}, fmt.Errorf("cgroup %s: %w", name, err)
	}
	mem := s.MemoryStats
	rss, inactive := mem.Stats["anon"], mem.Stats["inactive_file"] // v2
	if _, v1 := mem.Stats["total_rss"]; v1 {
		rss, inactive = mem.Stats["total_rss"], mem.Stats["total_inactive_file"]
	}
	faults := mem.Stats["pgfault"]
	if t, ok := mem.Stats["total_pgfault"]; ok {
		faults = t
	}
	return Usage{
		CPU: time.Duration(s.CpuStats.CpuUsage.TotalUsage), Memory: mem.Usage.Usage, RSS: rss, PageFaults: faults,
		WorkingSet: mem.Usage.Usage - min(inactive, mem.Usage.Usage), Processes: s.PidsStats.Current,
	}, nil
}

// killTries and killPause bound how long Kill waits for processes to be gone.
const (
	killTries = 100
	killPause = 20 * time.Millisecond
)

// Kill ends every process in the cgroup name and below, and waits until they are gone. No such cgroup is no error.
func Kill(ctx context.Context, name string) error {
	m, err := open(name, container.Resources{})
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", name, err)
	}
	for range killTries {
		if !m.Exists() {
			return nil
		}
		pids, err := m.GetAllPids()
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("cgroup %s: %w", name, err)
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("cgroup %s: kill %d: %w", name, pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s: kill: %w", name, ctx.Err())
		case <-time.After(killPause):
		}
	}
	return fmt.Errorf("cgroup %s: processes do not end", name)
}

// Remove kills what is in the cgroup name and removes it with everything below. No such cgroup is no error.
func Remove(ctx context.Context, name string) error {
	if err := Kill(ctx, name); err != nil {
		return err
	}
	m, err := open(name, container.Resources{})
	if err == nil {
		err = m.Destroy()
	}
	if err != nil {
		return fmt.Errorf("cgroup %s: remove: %w", name, err)
	}
	return nil
}

// Leave moves the process pid out of the cgroup by which a service manager would stop it together with the process that
// started it: on v2 to the leaf cgroup name, on v1, where services are stopped by a hierarchy without controllers, to the
// root of that one. Moving a process makes the kernel wait some 10 ms, so whoever is in a root already stays.
func Leave(name string, pid int) error {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("read own cgroups: %w", err)
	}
	if cgroups.IsCgroup2UnifiedMode() {
		if own[""] == "/" {
			return nil
		}
		return moveTo(name, pid)
	}
	for hierarchy, dir := range map[string]string{"name=systemd": "systemd", "": "unified"} {
		if at, ok := own[hierarchy]; !ok || at == "/" {
			continue
		}
		root := filepath.Join("/sys/fs/cgroup", dir)
		if _, err := os.Stat(filepath.Join(root, cgroups.CgroupProcesses)); err != nil {
			continue // not mounted: nobody can stop anything by it
		}
		if err := cgroups.WriteCgroupProc(root, pid); err != nil {
			return fmt.Errorf("leave the cgroup of the service: %w", err)
		}
	}
	return nil
}

func moveTo(name string, pid int) error {
	if err := Ensure(name, container.Resources{}); err != nil {
		return err
	}
	m, err := open(name, container.Resources{})
	if err == nil {
		err = m.AddPid("", pid)
	}
	if err != nil {
		return fmt.Errorf("cgroup %s: move process: %w", name, err)
	}
	return nil
}
