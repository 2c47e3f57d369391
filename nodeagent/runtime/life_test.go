package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"hardway/nodeagent/network"
)

func TestTwoContainersShareThePod(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	if !pod.Alive || len(pod.IPs) != 1 {
		t.Fatalf("pod %+v", pod)
	}
	server := w.sh(pod, `echo from-server > /dev/shm/note; echo served > /tmp/index.html; httpd -f -p 8000 -h /tmp`)
	client := w.sh(pod, `until wget -q -O - http://127.0.0.1:8000/index.html; do usleep 20000; done; cat /dev/shm/note; hostname; sleep 1000`)
	want := "served\nfrom-server\npod-1\n"
	eventually(t, "the client sees the server", func() bool { return strings.HasSuffix(w.output(client), want) })

	for kind, same := range map[string]bool{"net": true, "ipc": true, "uts": true, "pid": false, "mnt": false} {
		a, b := nsOf(t, server.Pid, kind), nsOf(t, client.Pid, kind)
		if (a == b) != same {
			t.Errorf("%s namespaces %s and %s: same should be %v", kind, a, b, same)
		}
		if a == nsOf(t, os.Getpid(), kind) {
			t.Errorf("%s namespace is the host's", kind)
		}
	}
	st, _, err := w.Pod(t.Context(), pod.Config.UID)
	if err != nil || len(st.Containers) != 2 {
		t.Errorf("pod has %d containers: %v", len(st.Containers), err)
	}
}

func nsOf(t *testing.T, pid int, kind string) string {
	t.Helper()
	s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExitCodes(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	tests := []struct {
		name, script string
		code, signal int
		output       string
	}{
		{"success", "echo fine", 0, 0, "fine\n"},
		{"failure", "echo bad >&2; exit 3", 3, 0, "bad\n"},
		{"killed by itself", "kill -KILL $$", 137, 9, ""},
		{"unfinished line", "printf half", 0, 0, "half"},
		{"the image's environment", "echo $FROM_IMAGE", 0, 0, "yes\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st, out := w.run(pod, tt.script)
			// Process 1 of a namespace cannot kill itself; the kernel ignores it.
			if tt.signal != 0 {
				st = w.sh(pod, "sleep 1000")
				if err := w.SignalContainer(t.Context(), pod.Config.UID, st.ID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				st, out = w.exited(pod, st.ID), ""
			}
			if st.ExitCode != tt.code || st.Signal != tt.signal || out != tt.output || st.OOMKilled {
				t.Errorf("got code %d, signal %d, output %q, %+v", st.ExitCode, st.Signal, out, st)
			}
			if st.StartedAt.IsZero() || st.FinishedAt.Before(st.StartedAt) || st.CreatedAt.After(st.StartedAt) {
				t.Errorf("times: created %v started %v finished %v", st.CreatedAt, st.StartedAt, st.FinishedAt)
			}
		})
	}
}

func TestTermination(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	if st := w.sh(pod, "true"); st.StopSignal != syscall.SIGTERM {
		t.Errorf("stop signal %v", st.StopSignal)
	}
	polite := w.sh(pod, `trap 'echo bye; exit 7' TERM; echo up; while true; do usleep 10000; done`)
	deaf := w.sh(pod, `trap '' TERM; echo up; while true; do usleep 10000; done`)
	for _, st := range []Status{polite, deaf} {
		eventually(t, "the trap is set", func() bool { return strings.Contains(w.output(st), "up") })
		if err := w.SignalContainer(t.Context(), pod.Config.UID, st.ID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if st := w.exited(pod, polite.ID); st.ExitCode != 7 || w.output(st) != "up\nbye\n" {
		t.Errorf("polite: %+v, %q", st, w.output(st))
	}
	if st := w.status(pod, deaf.ID); st.State != Running {
		t.Errorf("deaf: %+v", st)
	}
	if err := w.SignalContainer(t.Context(), pod.Config.UID, deaf.ID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := w.exited(pod, deaf.ID); st.ExitCode != 137 || st.Signal != 9 {
		t.Errorf("deaf: %+v", st)
	}
	if err := w.SignalContainer(t.Context(), pod.Config.UID, deaf.ID, syscall.SIGKILL); err != nil {
		t.Errorf("signal to one that has ended: %v", err)
	}
	if err := w.SignalContainer(t.Context(), pod.Config.UID, "nobody", syscall.SIGKILL); !errors.Is(err, ErrNotFound) {
		t.Errorf("signal to nobody: %v", err)
	}
}

func TestStartFailures(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	tests := []struct {
		name   string
		change func(*ContainerConfig)
		code   int
		words  string
	}{
		{"no such program", func(c *ContainerConfig) { c.Args = []string{"nosuch"} }, 127, `exec: "nosuch": executable file not found in $PATH`},
		{"no such path", func(c *ContainerConfig) { c.Args = []string{"/nosuch"} }, 127, `exec: "/nosuch": stat /nosuch: no such file or directory`},
		{"not executable", func(c *ContainerConfig) { c.Args = []string{"/etc/passwd"} }, 126, "permission denied"},
		{"a folder", func(c *ContainerConfig) { c.Args = []string{"/etc"} }, 126, "is a directory"},
		{"no such user", func(c *ContainerConfig) { c.User = "nobody-here" }, 128, `user "nobody-here"`},
		{"missing mount source", func(c *ContainerConfig) { c.Mounts = []Mount{{Source: "/nosuch", Target: "/data"}} }, 128, "/nosuch"},
		{"unknown capability", func(c *ContainerConfig) { c.Security.AddCapabilities = []string{"FLY"} }, 128, `unknown capability "FLY"`},
		{"empty seccomp profile", func(c *ContainerConfig) { c.Security.Seccomp = "Localhost:" + emptyFile(t) }, 128, "seccomp profile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := w.config("true", tt.change)
			st, err := w.StartContainer(t.Context(), pod.Config.UID, cfg)
			se, ok := isStartError(err)
			if !ok || !strings.Contains(se.Reason, tt.words) || se.ExitCode != tt.code {
				t.Fatalf("got %v (%+v), want code %d and %q", err, se, tt.code, tt.words)
			}
			if st.State != Exited || st.Reason != se.Reason || st.ExitCode != tt.code {
				t.Errorf("status %+v", st)
			}
			if again := w.status(pod, cfg.ID); again.Reason != st.Reason {
				t.Errorf("recorded %+v", again)
			}
			if err := w.RemoveContainer(t.Context(), pod.Config.UID, cfg.ID); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := w.StartContainer(t.Context(), pod.Config.UID, w.config("true", func(c *ContainerConfig) { c.Image = "nosuch" })); err == nil {
		t.Error("a container of no image started")
	}
}

func emptyFile(t *testing.T) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "empty.json")
	if err := os.WriteFile(p, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCallsMayBeRepeated(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	again, err := w.EnsurePod(t.Context(), pod.Config)
	if err != nil || again.IPs[0] != pod.IPs[0] || !again.CreatedAt.Equal(pod.CreatedAt) {
		t.Errorf("ensured again: %+v, %v", again, err)
	}
	cfg := w.config("sleep 1000")
	first := w.start(pod, cfg)
	if second := w.start(pod, cfg); second.Pid != first.Pid {
		t.Errorf("started again: pid %d, before %d", second.Pid, first.Pid)
	}
	if err := w.RemoveContainer(t.Context(), pod.Config.UID, cfg.ID); err == nil {
		t.Error("a running container was removed")
	}
	for range 2 {
		if err := w.RemovePod(t.Context(), pod.Config.UID); err != nil {
			t.Fatal(err)
		}
	}
	if running(first.Pid) {
		t.Error("its process lives")
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	st := w.sh(pod, "exit 5")
	seen := []State{}
	for len(seen) == 0 || seen[len(seen)-1] != Exited {
		select {
		case e := <-w.Events():
			if e.UID != pod.Config.UID || e.Container.ID != st.ID {
				t.Fatalf("event %+v", e)
			}
			seen = append(seen, e.Container.State)
			if e.Container.State == Exited && e.Container.ExitCode != 5 {
				t.Errorf("event %+v", e)
			}
		case <-t.Context().Done():
			t.Fatal("no event")
		}
	}
	if fmt.Sprint(seen) != "[running exited]" {
		t.Errorf("events %v", seen)
	}
}

// TestRemoveLeavesNothing compares the machine before a pod and after it.
func TestRemoveLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.pod() // another pod that stays, so that the shared parts are there in both pictures
	before := picture(t, w)
	pod := w.pod(func(p *PodConfig) {
		p.HostPorts = []HostPort{{HostPort: 8088, ContainerPort: 80, Protocol: "TCP"}}
	})
	vol := t.TempDir()
	a := w.sh(pod, "sleep 1000", func(c *ContainerConfig) { c.Mounts = []Mount{{Source: vol, Target: "/data", SubPath: "a/b"}} })
	b := w.sh(pod, "touch /written; sleep 1000 & sleep 1000")
	w.run(pod, "exit 1")
	if _, out := w.exec(pod, b.ID, "sleep 1000 & echo started"); out != "started\n" {
		t.Errorf("exec said %q", out)
	}
	sup := parentOf(t, a.Pid)
	if err := w.RemovePod(t.Context(), pod.Config.UID); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{a.Pid, b.Pid, sup} {
		eventually(t, "the process ends", func() bool { return !running(pid) })
	}
	if after := picture(t, w); after != before {
		t.Errorf("only after: %q; only before: %q", minus(after, before), minus(before, after))
	}
	if holders, err := w.opts.Images.Holders(); err != nil || len(holders) != 0 {
		t.Errorf("image leases left: %v, %v", holders, err)
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var ppid int
		if n, err := fmt.Sscanf(line, "PPid: %d", &ppid); n == 1 && err == nil {
			return ppid
		}
	}
	t.Fatalf("process %d has no parent", pid)
	return 0
}

// picture is everything a pod leaves on the machine.
func picture(t *testing.T, w *world) string {
	t.Helper()
	var b strings.Builder
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, w.dir) {
			b.WriteString(line)
		}
	}
	for _, c := range testCgroups(w.cg) {
		fmt.Fprintln(&b, "cgroup", c)
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&b, "link", l.Attrs().Name)
	}
	for _, d := range []string{"run/pods", "containers", "network/addresses", "network/pods", "images/leases"} {
		entries, err := os.ReadDir(filepath.Join(w.dir, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			fmt.Fprintln(&b, "file", d, e.Name())
		}
	}
	return b.String()
}

func TestNetworkNotReady(t *testing.T) {
	w := newWorld(t)
	bare, err := network.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.opts.Network = bare
	_, err = w.EnsurePod(t.Context(), PodConfig{UID: "early", Namespace: "test", Name: "early", CgroupParent: w.cg + "/early"})
	if !errors.Is(err, network.ErrNotReady) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(w.podDir("early") + "/sock"); err == nil {
		if alive, _, _ := w.Pod(context.Background(), "early"); alive.Alive {
			t.Error("a half-made sandbox lives")
		}
	}
}

// minus lists the lines of a that b lacks.
func minus(a, b string) []string {
	have := map[string]bool{}
	for line := range strings.Lines(b) {
		have[line] = true
	}
	var out []string
	for line := range strings.Lines(a) {
		if !have[line] {
			out = append(out, line)
		}
	}
	return out
}
