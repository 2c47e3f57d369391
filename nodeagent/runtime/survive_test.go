package runtime

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// TestAgentKilled kills the process that made a pod and looks at the pod through a new one.
func TestAgentKilled(t *testing.T) {
	w := newWorld(t)
	shared := filepath.Join(w.dir, "shared")
	if err := os.MkdirAll(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	agent := exec.Command("/proc/self/exe")
	agent.Env = append(os.Environ(), envAgent+"="+w.dir)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "READY\n" {
		t.Fatalf("the agent says %q, %v", line, err)
	}
	pod := PodStatus{Config: PodConfig{UID: "survivor"}}
	steady, brief := w.status(pod, "steady"), w.status(pod, "brief")
	if steady.State != Running || brief.State != Running {
		t.Fatalf("before: %+v, %+v", steady, brief)
	}

	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err == nil {
		t.Fatal("the agent was not killed")
	}
	// While nobody looks one container ends.
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the brief container ends", func() bool { return !running(brief.Pid) })

	w.Close()
	reopened, err := openIn(w.dir, w.cg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	w.Runtime = reopened
	st, ok, err := w.Pod(t.Context(), "survivor")
	if err != nil || !ok || !st.Alive || len(st.IPs) != 1 {
		t.Fatalf("reopened: %+v, %v, %v", st, ok, err)
	}
	if now := w.status(pod, "steady"); now.Pid != steady.Pid || now.State != Running || !now.StartedAt.Equal(steady.StartedAt) || !running(now.Pid) {
		t.Errorf("steady: %+v, before %+v", now, steady)
	}
	if now := w.exited(pod, "brief"); now.ExitCode != 42 || now.FinishedAt.IsZero() || w.output(now) != "bye\n" {
		t.Errorf("brief: %+v, output %q", now, w.output(now))
	}
	n := len(w.output(steady))
	eventually(t, "its log grows", func() bool { return len(w.output(steady)) > n })
	counted(t, w.output(steady))
	// The new agent hears of what happens from now on, and can do everything.
	if code, out := w.exec(pod, "steady", "echo $((6*7))"); code != 0 || out != "42\n" {
		t.Errorf("exec: %d, %q", code, out)
	}
	if err := w.SignalContainer(t.Context(), "survivor", "steady", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		e := <-w.Events()
		if e.Container.ID == "steady" && e.Container.State == Exited {
			break
		}
	}
	again, err := w.EnsurePod(t.Context(), st.Config)
	if err != nil || !again.Alive || again.IPs[0] != st.IPs[0] {
		t.Errorf("ensured: %+v, %v", again, err)
	}
}

// counted checks that a log counts up from 0 without a gap.
func counted(t *testing.T, log string) {
	t.Helper()
	want := 0
	for line := range strings.Lines(log) {
		if strings.TrimSpace(line) != fmt.Sprint(want) {
			t.Fatalf("line %d of the log is %q", want, line)
		}
		want++
	}
}

// TestSupervisorKilled loses a pod and makes it anew.
func TestSupervisorKilled(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	c := w.sh(pod, "sleep 1000")
	old, _ := w.run(pod, "exit 3")
	if err := unix.Kill(parentOf(t, c.Pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		if e := <-w.Events(); e.Container.ID == "" && e.UID == pod.Config.UID {
			break
		}
	}
	eventually(t, "its container is killed", func() bool { return !running(c.Pid) })
	st, ok, err := w.Pod(t.Context(), pod.Config.UID)
	if err != nil || !ok || st.Alive || len(st.Containers) != 2 {
		t.Fatalf("lost pod: %+v, %v, %v", st, ok, err)
	}
	if got := w.status(pod, c.ID); got.State != Exited || got.ExitCode != 137 || got.Reason == "" {
		t.Errorf("lost container: %+v", got)
	}
	if got := w.status(pod, old.ID); got.ExitCode != 3 {
		t.Errorf("container that had ended: %+v", got)
	}
	gone, _ := w.StartContainer(t.Context(), pod.Config.UID, w.config("true"))
	if gone.ID != "" {
		t.Errorf("a container started in a lost pod: %+v", gone)
	}
	st, err = w.EnsurePod(t.Context(), pod.Config)
	if err != nil || !st.Alive || len(st.Containers) != 2 {
		t.Fatalf("made anew: %+v, %v", st, err)
	}
	if got := w.status(pod, c.ID); got.State != Exited || got.ExitCode != 137 {
		t.Errorf("lost container in the new sandbox: %+v", got)
	}
	if _, out := w.run(pod, "echo new"); out != "new\n" {
		t.Errorf("new container says %q", out)
	}
	// The new sandbox is watched, too: losing it is told again, and its containers can be removed without it.
	next := w.sh(pod, "sleep 1000")
	if err := unix.Kill(parentOf(t, next.Pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		if e := <-w.Events(); e.Container.ID == "" && e.UID == pod.Config.UID {
			break
		}
	}
	for _, id := range []string{c.ID, old.ID} {
		if err := w.RemoveContainer(t.Context(), pod.Config.UID, id); err != nil {
			t.Error(err)
		}
	}
}

// TestRebootLeftovers opens a runtime whose state is gone, as /run is after a reboot, while the disk is not.
func TestRebootLeftovers(t *testing.T) {
	w := newWorld(t)
	layer := filepath.Join(w.opts.DataDir, "gone", "container", "upper")
	if err := os.MkdirAll(layer, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := w.opts.Images.Use("busybox", "gone-container"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r, err := openIn(w.dir, w.cg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	w.Runtime = r
	if _, err := os.Stat(layer); !os.IsNotExist(err) {
		t.Errorf("writable layer of a container that is gone: %v", err)
	}
	if holders, err := w.opts.Images.Holders(); err != nil || len(holders) != 0 {
		t.Errorf("leases: %v, %v", holders, err)
	}
}

// TestUpgrade replaces the supervisor's program, and the agent, under a running pod.
func TestUpgrade(t *testing.T) {
	w := newWorld(t)
	program, err := os.ReadFile(w.opts.SupervisorBinary)
	if err != nil {
		t.Fatal(err)
	}
	installed := filepath.Join(w.dir, "hardway-supervisor")
	install := func() {
		t.Helper()
		if err := os.WriteFile(installed+".new", program, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(installed+".new", installed); err != nil {
			t.Fatal(err)
		}
	}
	install()
	w.sandbox.Binary = installed
	pod := w.pod()
	before := w.sh(pod, "sleep 1000")
	install()
	after := w.sh(pod, "echo new; sleep 1000")
	eventually(t, "the new container runs", func() bool { return w.output(after) == "new\n" })
	if code, out := w.exec(pod, before.ID, "echo old"); code != 0 || out != "old\n" {
		t.Errorf("exec: %d, %q", code, out)
	}
	if got := w.status(pod, before.ID); got.Pid != before.Pid || got.State != Running {
		t.Errorf("the old container: %+v", got)
	}
}

// TestCrashLeftovers opens a runtime over folders of pods that a crash left half made or half removed.
func TestCrashLeftovers(t *testing.T) {
	w := newWorld(t)
	kept := w.pod()
	for _, name := range []string{"empty", "half"} {
		if err := os.MkdirAll(filepath.Join(w.podDir("x"), "..", name, "containers"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.writeRecord(record{Config: PodConfig{UID: "half", Namespace: "test", Name: "half", CgroupParent: w.cg + "/half"}}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r, err := openIn(w.dir, w.cg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	w.Runtime = r
	pods, err := r.Pods(t.Context())
	if err != nil || len(pods) != 2 {
		t.Fatalf("pods %+v, %v", pods, err)
	}
	for _, p := range pods {
		if p.Alive != (p.Config.UID == kept.Config.UID) {
			t.Errorf("pod %+v", p)
		}
	}
	if st, err := r.EnsurePod(t.Context(), PodConfig{UID: "half", Namespace: "test", Name: "half", CgroupParent: w.cg + "/half"}); err != nil || !st.Alive || len(st.IPs) != 1 {
		t.Errorf("the half-made pod: %+v, %v", st, err)
	}
}
