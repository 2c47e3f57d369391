package runtime

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// TestSupervisorStaysSmall lets a supervisor do much and looks at what it keeps.
func TestSupervisorStaysSmall(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	c := w.sh(pod, "sleep 1000")
	sup := parentOf(t, c.Pid)
	descriptors := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", sup))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := descriptors()
	for i := range 20 {
		w.exec(pod, c.ID, "echo x; echo y >&2")
		if _, err := w.Exec(t.Context(), pod.Config.UID, c.ID, []string{"nosuch"}, Streams{Stdout: &buffer{}}); err == nil {
			t.Error("a program that is not there was run")
		}
		if i%4 == 0 {
			st, _ := w.run(pod, "echo short")
			if err := w.RemoveContainer(t.Context(), pod.Config.UID, st.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "descriptors are closed", func() bool { return descriptors() <= before })
	var rss int
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", sup))
	if err != nil {
		t.Fatal(err)
	}
	var size, shared int
	if _, err := fmt.Sscan(string(b), &size, &rss, &shared); err != nil {
		t.Fatal(err)
	}
	if private := (rss - shared) * os.Getpagesize() >> 10; private > 12<<10 {
		t.Errorf("the supervisor keeps %d KiB to itself", private)
	} else {
		t.Logf("%d KiB private, %d KiB resident, %d descriptors", private, rss*os.Getpagesize()>>10, before)
	}
}

// TestManyPodsAtOnce starts pods side by side, as a node does after a reboot.
func TestManyPodsAtOnce(t *testing.T) {
	w := newWorld(t)
	const n = 12
	var wg sync.WaitGroup
	for i := range n {
		uid := fmt.Sprintf("many-%d", i)
		cfg := w.config("echo up; sleep 1000")
		wg.Go(func() {
			st, err := w.EnsurePod(t.Context(), PodConfig{UID: types.UID(uid), Namespace: "test", Name: uid, Hostname: uid, CgroupParent: w.cg + "/" + uid})
			if err == nil {
				_, err = w.StartContainer(t.Context(), st.Config.UID, cfg)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	pods, err := w.Pods(t.Context())
	if err != nil || len(pods) != n {
		t.Fatalf("%d pods, %v", len(pods), err)
	}
	seen := map[string]bool{}
	for _, p := range pods {
		ip := fmt.Sprint(p.IPs)
		if !p.Alive || len(p.Containers) != 1 || p.Containers[0].State != Running || seen[ip] {
			t.Errorf("pod %+v", p)
		}
		seen[ip] = true
		wg.Go(func() {
			if err := w.RemovePod(t.Context(), p.Config.UID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
