package scripts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervised is a supervisor at work on a shell command as its daemon.
type supervised struct {
	dir     string
	process *exec.Cmd
	done    chan struct{}
}

func supervise(t *testing.T, command string) supervised {
	t.Helper()
	s := supervised{dir: t.TempDir(), done: make(chan struct{})}
	for _, dir := range []string{"run", "log"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.process = exec.Command("../../scripts/supervise.sh", s.dir, "d", "sh", "-c", command)
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.process.Wait() // how it ended is seen by what it left
		close(s.done)
	}()
	t.Cleanup(func() { _ = s.process.Process.Signal(syscall.SIGTERM) })
	return s
}

func (s supervised) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, name)) // absent: empty
	return string(text)
}

func (s supervised) pid() int {
	pid, _ := strconv.Atoi(strings.TrimSpace(s.read("run/d.pid")))
	return pid
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (s supervised) ends(t *testing.T) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the supervisor does not end")
	}
	if s.read("run/d.pid") != "" || s.read("run/d.supervisor.pid") != "" {
		t.Error("pid files are left")
	}
}

const untilTerm = `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 1000 & wait; done`

func TestSuperviseRestartsWhatWasKilled(t *testing.T) {
	s := supervise(t, untilTerm)
	for i := range 2 {
		until(t, "the daemon is up", func() bool { return strings.Count(s.read("log/d.log"), "up\n") == i+1 })
		old := s.pid()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "another process", func() bool { return s.pid() != 0 && s.pid() != old })
	}
	if log := s.read("log/d.log"); !strings.Contains(log, "ended with status 137, starting it again in 0.2 s") ||
		!strings.Contains(log, "starting it again in 0.5 s") {
		t.Errorf("the log does not tell what happened:\n%s", log)
	}
}

func TestSuperviseStopsInPeace(t *testing.T) {
	s := supervise(t, untilTerm)
	until(t, "the daemon is up", func() bool { return s.read("log/d.log") == "up\n" })
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(t)
	if log := s.read("log/d.log"); log != "up\nbye\n" {
		t.Errorf("the daemon was not stopped by SIGTERM, once: %q", log)
	}
}

func TestSuperviseStopsWhileItWaits(t *testing.T) {
	s := supervise(t, "exit 1")
	until(t, "the third pause", func() bool { return strings.Contains(s.read("log/d.log"), "again in 1 s") })
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(t)
}

func TestSuperviseLeavesBadConfigurationDown(t *testing.T) {
	s := supervise(t, "echo no such flag >&2; exit 2")
	s.ends(t)
	if log := s.read("log/d.log"); strings.Count(log, "no such flag") != 1 || !strings.Contains(log, "its configuration is bad") {
		t.Errorf("log:\n%s", log)
	}
}

func TestSuperviseTakesTheDaemonWithIt(t *testing.T) {
	s := supervise(t, untilTerm)
	until(t, "the daemon is up", func() bool { return s.read("log/d.log") == "up\n" })
	if err := s.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the daemon got SIGTERM", func() bool { return strings.HasSuffix(s.read("log/d.log"), "bye\n") })
	until(t, "its process is gone", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}
