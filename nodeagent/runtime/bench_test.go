package runtime

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkPodStart measures a pod of one container from nothing to running, network included, and what its supervisor
// costs. The times are medians in milliseconds.
func BenchmarkPodStart(b *testing.B) {
	for _, profile := range []string{"RuntimeDefault", "Unconfined"} {
		b.Run(profile, func(b *testing.B) {
			w := newWorld(b)
			var ensure, start, total, remove, memory []float64
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			cpu := cpuTime(b)
			for b.Loop() {
				t0 := time.Now()
				pod := w.pod()
				t1 := time.Now()
				st := w.sh(pod, "sleep 1000", func(c *ContainerConfig) { c.Security.Seccomp = profile })
				t2 := time.Now()
				b.StopTimer()
				memory = append(memory, privateMemory(b, parent(b, st.Pid)))
				t3 := time.Now()
				if err := w.RemovePod(b.Context(), pod.Config.UID); err != nil {
					b.Fatal(err)
				}
				remove = append(remove, ms(time.Since(t3)))
				ensure, start, total = append(ensure, ms(t1.Sub(t0))), append(start, ms(t2.Sub(t1))), append(total, ms(t2.Sub(t0)))
				b.StartTimer()
			}
			for name, v := range map[string][]float64{"sandbox-ms": ensure, "container-ms": start, "total-ms": total, "remove-ms": remove, "supervisor-KiB": memory} {
				slices.Sort(v)
				b.ReportMetric(v[len(v)/2], name)
			}
			b.ReportMetric(total[0], "best-ms")
			b.ReportMetric(ms(cpuTime(b)-cpu)/float64(len(total)), "cpu-ms") // of all processes, removal included
		})
	}
}

// cpuTime is what this process and its ended descendants have used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func parent(b *testing.B, pid int) int {
	b.Helper()
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var state string
	var ppid int
	_, rest, _ := strings.Cut(string(s), ") ")
	if _, err := fmt.Sscan(rest, &state, &ppid); err != nil {
		b.Fatal(err)
	}
	return ppid
}

// privateMemory is what a process keeps to itself, in KiB. Pages of its program are shared by all supervisors of a node.
func privateMemory(b *testing.B, pid int) float64 {
	b.Helper()
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	var kib float64
	for line := range strings.Lines(string(s)) {
		if n, err := fmt.Sscanf(line, "RssAnon: %f kB", &kib); n == 1 && err == nil {
			return kib
		}
	}
	b.Fatal("the kernel does not say")
	return 0
}
