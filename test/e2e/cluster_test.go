//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Where things are, set by TestMain.
var (
	root  string // of the repository
	build string // binaries and images
	state string // of the cluster under test
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "end-to-end tests start containers and need root: sudo make test")
		return 1
	}
	var err error
	if root, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	build = filepath.Join(root, ".hardway")
	if state = os.Getenv("HARDWAY_STATE"); state != "" {
		return m.Run()
	}
	state = filepath.Join(build, "e2e")
	if _, err := os.Stat(state); err == nil { // an earlier run was cut short
		if err := script("down.sh", io.Discard); err != nil {
			fmt.Fprintln(os.Stderr, "take down what an earlier run left:", err)
		}
		if err := os.RemoveAll(state); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if leftovers() != "" { // of a cluster that is no more; 'make down' refuses when there is an owner
		_ = script("down.sh", io.Discard)
	}
	if found := leftovers(); found != "" {
		fmt.Fprintf(os.Stderr, "this machine is not clean; does another cluster run here? ('sudo make down' ends it)\n%s", found)
		return 1
	}
	before := hostState()
	if err := script("up.sh", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "make up:", err)
		_ = script("down.sh", io.Discard)
		return 1
	}
	code := m.Run()
	if os.Getenv("HARDWAY_KEEP") != "" {
		fmt.Printf("the cluster is left running: export KUBECONFIG=%s/admin.kubeconfig; HARDWAY_STATE=%s make down\n", state, state)
		return code
	}
	return max(code, takeDown(before))
}

// takeDown is the test of 'make down': the machine must be as it was.
func takeDown(before []string) int {
	if err := script("down.sh", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "make down:", err)
		return 1
	}
	if found := leftovers(); found != "" {
		fmt.Fprintf(os.Stderr, "make down left behind:\n%s", found)
		return 1
	}
	code := 0
	after := hostState()
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintln(os.Stderr, "new on this machine after make down:", line)
			code = 1
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			fmt.Fprintln(os.Stderr, "gone from this machine after make down:", line)
			code = 1
		}
	}
	return code
}

// script runs a script of the repository for the cluster under test.
func script(name string, out io.Writer) error {
	cmd := exec.Command(filepath.Join(root, "scripts", name))
	cmd.Env = append(os.Environ(), "HARDWAY_STATE="+state, "NODES=1")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(&stderr, out)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, &stderr)
	}
	return nil
}

// leftovers lists what belongs to a cluster of this checkout, one thing per line.
func leftovers() string {
	out, err := exec.Command(filepath.Join(build, "build", "leftovers"), build, state).CombinedOutput()
	if _, found := errors.AsType[*exec.ExitError](err); err != nil && !found {
		return err.Error()
	}
	return string(out)
}

// hostState lists what a cluster must leave as it was, one fact per line: links, addresses, routes, mounts, settings.
func hostState() []string {
	var facts []string
	for _, args := range [][]string{{"-br", "link"}, {"-br", "address"}, {"route"}, {"-6", "route"}, {"rule"}} {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return []string{fmt.Sprintf("ip %v: %v %s", args, err, out)}
		}
		for line := range strings.Lines(string(out)) {
			facts = append(facts, strings.Join(args, " ")+": "+strings.Join(strings.Fields(line), " "))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(string(mounts)) {
		facts = append(facts, "mount "+strings.Fields(line)[4])
	}
	for _, setting := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv6/conf/all/forwarding"} {
		value, err := os.ReadFile("/proc/sys/" + setting)
		facts = append(facts, fmt.Sprintf("%s=%s %v", setting, bytes.TrimSpace(value), err))
	}
	return facts
}

// wait repeats try until it succeeds; after the timeout the test fails with try's last error.
func wait(t *testing.T, what string, timeout time.Duration, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, timeout, err)
		}
	}
}

// daemonPID reads which process a daemon is now; 0 while it is down.
func daemonPID(name string) int {
	text, err := os.ReadFile(filepath.Join(state, "run", name+".pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || filepath.Base(exe) != "hardway-"+name {
		return 0
	}
	return pid
}

// kill ends a daemon by SIGKILL and waits until its supervisor has started it again.
func kill(t *testing.T, name string) {
	t.Helper()
	old := daemonPID(name)
	if old == 0 {
		t.Fatalf("%s does not run", name)
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", name, err)
	}
	wait(t, name+" runs again", 15*time.Second, func() error {
		if pid := daemonPID(name); pid == 0 || pid == old {
			return fmt.Errorf("pid %d, was %d", pid, old)
		}
		return nil
	})
}
