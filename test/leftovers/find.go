package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// What begins the names of everything of ours that has no path.
const (
	cgroup = "hardway"
	mark   = "hardway" // tables and network namespaces
)

// runDir is what lives as long as the kernel does. The folder may stay when it is empty: it is then somebody's mount point.
const runDir = "/run/hardway"

// find looks everywhere; dirs are folders of ours. All searches are made even when one fails.
func find(dirs []string) ([]string, error) {
	var found []string
	var errs []error
	for _, search := range []func([]string) ([]string, error){processes, mounts, links, tables, cgroups, namespaces, files} {
		lines, err := search(dirs)
		found = append(found, lines...)
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// below tells whether path is one of dirs or lies below one.
func below(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	})
}

// processes are those that run a hardway program of ours, a script of ours beside it, or live in one of our cgroups.
func processes(dirs []string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []string
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err != nil || pid == os.Getpid() {
			continue
		}
		proc := filepath.Join("/proc", entry.Name())
		exe, _ := os.Readlink(filepath.Join(proc, "exe")) // a process may end while it is looked at
		command, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		groups, _ := os.ReadFile(filepath.Join(proc, "cgroup"))
		stat, _ := os.ReadFile(filepath.Join(proc, "stat"))
		if !ended(string(stat)) && ours(exe, command, groups, dirs) {
			found = append(found, fmt.Sprintf("process %s: %s", entry.Name(), bytes.ReplaceAll(bytes.Trim(command, "\x00"), []byte{0}, []byte(" "))))
		}
	}
	return found, nil
}

// ended tells from /proc/<pid>/stat whether only the exit status is left of a process, for its parent to collect.
func ended(stat string) bool {
	_, state, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], ") ")
	return ok && strings.HasPrefix(state, "Z")
}

func ours(exe string, command, groups []byte, dirs []string) bool {
	if strings.HasPrefix(filepath.Base(exe), "hardway-") && below(exe, dirs) {
		return true
	}
	args := strings.Split(string(command), "\x00")
	if len(args) > 2 && filepath.Base(args[1]) == "supervise.sh" && below(args[2], dirs) {
		return true
	}
	for line := range strings.Lines(string(groups)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":/"); ok && strings.HasPrefix(path, cgroup) {
			return true
		}
	}
	return false
}

func mounts(dirs []string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return mountsBelow(text, dirs), nil
}

// mountsBelow reads the format of /proc/self/mountinfo, whose fifth field is the mount point.
func mountsBelow(mountinfo []byte, dirs []string) []string {
	var found []string
	for scanner := bufio.NewScanner(bytes.NewReader(mountinfo)); scanner.Scan(); {
		if fields := strings.Fields(scanner.Text()); len(fields) > 4 && below(fields[4], dirs) && fields[4] != runDir {
			found = append(found, "mount "+fields[4])
		}
	}
	return found
}

// links of ours begin with "hw": the bridge, and the host's end of every pod's pair.
func links([]string) ([]string, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var found []string
	for _, link := range all {
		if name := link.Attrs().Name; strings.HasPrefix(name, "hw") {
			found = append(found, "link "+name)
		}
	}
	return found, nil
}

func tables([]string) ([]string, error) {
	_, ours, err := ourTables()
	var found []string
	for _, table := range ours {
		found = append(found, "nftables table "+table.Name)
	}
	return found, err
}

func ourTables() (*nftables.Conn, []*nftables.Table, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, nil, fmt.Errorf("open netfilter: %w", err)
	}
	all, err := conn.ListTables()
	if err != nil {
		return nil, nil, fmt.Errorf("list nftables tables: %w", err)
	}
	return conn, slices.DeleteFunc(all, func(t *nftables.Table) bool { return !strings.HasPrefix(t.Name, mark) }), nil
}

func removeTables() error {
	conn, ours, err := ourTables()
	if err != nil {
		return err
	}
	for _, table := range ours {
		conn.DelTable(table)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nftables tables: %w", err)
	}
	return nil
}

// cgroups are ours below any hierarchy's root: /sys/fs/cgroup itself (v2) or a folder in it (v1).
func cgroups([]string) ([]string, error) {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/" + cgroup + "*", "/sys/fs/cgroup/*/" + cgroup + "*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				found = append(found, "cgroup "+path)
			}
		}
	}
	return found, nil
}

// files are those in runDir; all others are in dirs and stay there.
func files([]string) ([]string, error) {
	entries, err := os.ReadDir(runDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look into %s: %w", runDir, err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, filepath.Join(runDir, entry.Name()))
	}
	return found, nil
}

func namespaces([]string) ([]string, error) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var found []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), mark) {
			found = append(found, "network namespace "+entry.Name())
		}
	}
	return found, nil
}
