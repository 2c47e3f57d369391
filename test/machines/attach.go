package machines

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Attach finds the running machines of a lab that another process has started in the same namespaces, so that a test can
// go on where it left off.
func Attach(base, dir string, hosts map[string]string) (map[string]*Machine, error) {
	lab := &Lab{base, dir, hosts}
	found := map[string]*Machine{}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, path := range commands {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		words := strings.Split(string(text), "\x00")
		if filepath.Base(words[0]) != "systemd-nspawn" {
			continue
		}
		for _, word := range words {
			name, ok := strings.CutPrefix(word, "--machine=")
			if !ok || hosts[name] == "" {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				return nil, err
			}
			m := &Machine{Name: name, IP: hosts[name], lab: lab, done: make(chan struct{})}
			if m.init, err = childOf(pid); err != nil {
				return nil, fmt.Errorf("find process 1 of %s: %w", name, err)
			}
			go m.ends(pid)
			found[name] = m
		}
	}
	if len(found) != len(hosts) {
		return nil, fmt.Errorf("%d of %d machines run", len(found), len(hosts))
	}
	return found, nil
}

// ends waits for the end of a process that is somebody else's child, who may not have collected it.
func (m *Machine) ends(pid int) {
	done := m.done
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			close(done)
			return
		}
	}
}
