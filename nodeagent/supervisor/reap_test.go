package supervisor

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// TestReaper: a child that nobody waits for is collected, one that somebody waits for is left to them.
func TestReaper(t *testing.T) {
	mine, lost := exec.CommandContext(t.Context(), "/bin/true"), exec.CommandContext(t.Context(), "/bin/true")
	s := &Supervisor{containers: map[string]*entry{}}
	for _, cmd := range []*exec.Cmd{mine, lost} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	s.containers["c"] = &entry{pids: map[int]bool{mine.Process.Pid: true}}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(10 * time.Second); ; <-tick.C {
		s.reapOrphans()
		if _, err := os.Stat("/proc/" + strconv.Itoa(lost.Process.Pid)); os.IsNotExist(err) {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the child that nobody waits for is still there")
		}
	}
	if err := mine.Wait(); err != nil {
		t.Errorf("the other one was taken away: %v", err)
	}
}
