package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
)

// needControllers skips where cgroup v2 is there but its controllers belong to v1.
func needControllers(t *testing.T) {
	t.Helper()
	if !cgroups.IsCgroup2UnifiedMode() {
		return
	}
	if b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err != nil || !strings.Contains(string(b), "memory") {
		t.Skip("SKIP: no memory controller in cgroup v2 here")
	}
}

func TestOutOfMemory(t *testing.T) {
	needControllers(t)
	w := newWorld(t)
	pod := w.pod()
	limit := func(c *ContainerConfig) { c.Resources.MemoryLimit = 32 << 20 }
	st, _ := w.run(pod, "exec tail /dev/zero", limit)
	if !st.OOMKilled || st.ExitCode != 137 || st.Signal != 9 {
		t.Errorf("first process: %+v", st)
	}
	st, _ = w.run(pod, "tail /dev/zero; exit 9", limit)
	if !st.OOMKilled || st.ExitCode != 9 && st.ExitCode != 137 {
		t.Errorf("another process: %+v", st)
	}
	st, _ = w.run(pod, "exit 137", limit)
	if st.OOMKilled {
		t.Errorf("nothing was killed: %+v", st)
	}
}

func TestLimitsReachTheKernel(t *testing.T) {
	needControllers(t)
	w := newWorld(t)
	pod := w.pod(func(p *PodConfig) { p.Resources = Resources{CPUShares: 512, MemoryLimit: 256 << 20} })
	st := w.sh(pod, "sleep 1000", func(c *ContainerConfig) {
		c.Resources = Resources{CPUShares: 204, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 64 << 20, PidsLimit: 50, OOMScoreAdj: 900}
	})
	podDir := w.cg + "/" + string(pod.Config.UID)
	want := map[string]string{
		"cpu/" + podDir + "/cpu.shares":                             "512",
		"memory/" + podDir + "/memory.limit_in_bytes":               "268435456",
		"cpu/" + podDir + "/" + st.ID + "/cpu.shares":               "204",
		"cpu/" + podDir + "/" + st.ID + "/cpu.cfs_quota_us":         "50000",
		"memory/" + podDir + "/" + st.ID + "/memory.limit_in_bytes": "67108864",
		"pids/" + podDir + "/" + st.ID + "/pids.max":                "50",
	}
	if cgroups.IsCgroup2UnifiedMode() {
		want = map[string]string{
			podDir + "/memory.max":                     "268435456",
			podDir + "/" + st.ID + "/cpu.max":          "50000 100000",
			podDir + "/" + st.ID + "/memory.max":       "67108864",
			podDir + "/" + st.ID + "/pids.max":         "50",
			podDir + "/" + st.ID + "/memory.oom.group": "1",
		}
	}
	for file, value := range want {
		b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", file))
		if got := strings.TrimSpace(string(b)); err != nil || got != value {
			t.Errorf("%s is %q, want %q (%v)", file, got, value, err)
		}
	}
	if _, out := w.exec(pod, st.ID, "cat /proc/1/oom_score_adj"); out != "900\n" {
		t.Errorf("oom_score_adj %q", out)
	}
}

func TestStats(t *testing.T) {
	needControllers(t)
	w := newWorld(t)
	pod := w.pod()
	if s, err := w.Stats(t.Context(), pod.Config.UID); err != nil || len(s.Containers) != 0 {
		t.Errorf("empty pod: %+v, %v", s, err)
	}
	st := w.sh(pod, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000")
	eventually(t, "it has worked", func() bool { return strings.Contains(w.output(st), "done") })
	s, err := w.Stats(t.Context(), pod.Config.UID)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Containers[st.ID]
	if c.CPU <= 0 || c.Memory == 0 || c.WorkingSet == 0 || c.WorkingSet > c.Memory || c.Processes == 0 || s.Pod.CPU < c.CPU {
		t.Errorf("pod %+v, container %+v", s.Pod, c)
	}
	if _, err := w.Stats(t.Context(), "nobody"); err == nil {
		t.Error("a pod that is not there was measured")
	}
}
