package serve

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hardway/nodeagent/node"
	"hardway/nodeagent/podworker"
	"hardway/nodeagent/runtime"
)

// nodeCollector counts what the whole node uses: `kubectl top nodes` is made of it.
type nodeCollector struct{ cpu, memory, failed *prometheus.Desc }

func newNodeCollector() *nodeCollector {
	return &nodeCollector{
		cpu:    prometheus.NewDesc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil, nil),
		memory: prometheus.NewDesc("node_memory_working_set_bytes", "Current working set of the node in bytes", nil, nil),
		failed: prometheus.NewDesc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.cpu
	ch <- c.memory
	ch <- c.failed
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	u, err := node.ReadUsage()
	failed := 0.0
	if err != nil {
		failed = 1
	} else {
		ch <- prometheus.MustNewConstMetric(c.cpu, prometheus.CounterValue, u.CPU.Seconds())
		ch <- prometheus.MustNewConstMetric(c.memory, prometheus.GaugeValue, float64(u.WorkingSet))
	}
	ch <- prometheus.MustNewConstMetric(c.failed, prometheus.GaugeValue, failed)
}

// nodeStats is the node's part of the summary.
func (s *server) nodeStats() stats.NodeStats {
	out := stats.NodeStats{NodeName: s.Node}
	now := metav1.Now()
	if u, err := node.ReadUsage(); err == nil {
		out.StartTime = metav1.NewTime(u.BootedAt)
		out.CPU = &stats.CPUStats{Time: now, UsageCoreNanoSeconds: new(uint64(u.CPU.Nanoseconds()))}
		out.Memory = &stats.MemoryStats{
			Time: now, AvailableBytes: new(uint64(u.Available)), UsageBytes: new(uint64(u.Memory)), WorkingSetBytes: new(uint64(u.WorkingSet)),
		}
	}
	out.Fs = fsStats(now, s.RootDir)
	if images := fsStats(now, s.ImageDir); images != nil {
		out.Runtime = &stats.RuntimeStats{ImageFs: images, ContainerFs: images}
	}
	if counters, err := interfaces("/proc/self/net/dev"); err == nil {
		out.Network = &stats.NetworkStats{Time: now, Interfaces: counters}
	}
	return out
}

// fsStats measures the file system of a folder; nil if it cannot be.
func fsStats(now metav1.Time, dir string) *stats.FsStats {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return nil
	}
	size := uint64(st.Bsize)
	return &stats.FsStats{
		Time: now, AvailableBytes: new(st.Bavail * size), CapacityBytes: new(st.Blocks * size), UsedBytes: new((st.Blocks - st.Bfree) * size),
		InodesFree: new(st.Ffree), Inodes: new(st.Files), InodesUsed: new(st.Files - st.Ffree),
	}
}

// podNetwork counts the traffic of a pod, as one of its processes sees it; nil for pods in the node's network.
func podNetwork(now metav1.Time, p podworker.Pod) *stats.NetworkStats {
	if p.Spec.HostNetwork || p.Observed == nil {
		return nil
	}
	for _, c := range p.Observed.Containers {
		if c.State != runtime.Running || c.Pid == 0 {
			continue
		}
		list, err := interfaces(fmt.Sprintf("/proc/%d/net/dev", c.Pid))
		if err != nil {
			continue
		}
		out := &stats.NetworkStats{Time: now, Interfaces: list}
		for _, i := range list {
			if i.Name == "eth0" {
				out.InterfaceStats = i
			}
		}
		return out
	}
	return nil
}

// interfaces reads a net/dev file of /proc.
func interfaces(path string) ([]stats.InterfaceStats, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []stats.InterfaceStats
	for in := bufio.NewScanner(f); in.Scan(); {
		name, rest, ok := strings.Cut(in.Text(), ":")
		values := strings.Fields(rest)
		if !ok || len(values) < 11 || strings.TrimSpace(name) == "lo" {
			continue
		}
		number := func(i int) *uint64 {
			n, err := strconv.ParseUint(values[i], 10, 64)
			if err != nil {
				return nil
			}
			return &n
		}
		out = append(out, stats.InterfaceStats{
			Name: strings.TrimSpace(name), RxBytes: number(0), RxErrors: number(2), TxBytes: number(8), TxErrors: number(10),
		})
	}
	return out, nil
}
