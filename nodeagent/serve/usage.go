package serve

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hardway/nodeagent/podworker"
	"hardway/nodeagent/runtime"
)

// statsTimeout bounds the collection for one scrape.
const statsTimeout = 5 * time.Second

// podCollector counts pods and containers.
type podCollector struct {
	s                      *server
	pods, containers, node *prometheus.Desc
}

func newPodCollector(s *server) *podCollector {
	return &podCollector{
		s:          s,
		pods:       prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil),
		containers: prometheus.NewDesc("kubelet_running_containers", "Number of containers by state", []string{"container_state"}, nil),
		node:       prometheus.NewDesc("kubelet_node_name", "The node's name. The count is always 1.", []string{"node"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *podCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.pods
	ch <- c.containers
	ch <- c.node
}

// Collect implements prometheus.Collector.
func (c *podCollector) Collect(ch chan<- prometheus.Metric) {
	pods, states := 0, map[runtime.State]int{runtime.Created: 0, runtime.Running: 0, runtime.Exited: 0}
	for _, p := range c.s.Pods.Pods() {
		if p.Observed == nil {
			continue
		}
		if p.Observed.Alive {
			pods++
		}
		for _, ct := range p.Observed.Containers {
			states[ct.State]++
		}
	}
	ch <- prometheus.MustNewConstMetric(c.pods, prometheus.GaugeValue, float64(pods))
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(c.containers, prometheus.GaugeValue, float64(n), string(state))
	}
	ch <- prometheus.MustNewConstMetric(c.node, prometheus.GaugeValue, 1, c.s.Node)
}

// family is one metric of a container or pod, read from its cgroup.
type family struct {
	desc  *prometheus.Desc
	pod   bool // of the whole pod
	kind  prometheus.ValueType
	value func(runtime.Usage) float64
}

func containerFamily(name, help string, kind prometheus.ValueType, value func(runtime.Usage) float64) family {
	return family{prometheus.NewDesc(name, help, []string{"container", "namespace", "pod"}, nil), false, kind, value}
}

func podFamily(name, help string, kind prometheus.ValueType, value func(runtime.Usage) float64) family {
	return family{prometheus.NewDesc(name, help, []string{"namespace", "pod"}, nil), true, kind, value}
}

func cpuSeconds(u runtime.Usage) float64 { return u.CPU.Seconds() }
func workingSet(u runtime.Usage) float64 { return float64(u.WorkingSet) }

var cadvisorFamilies = []family{
	containerFamily("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", prometheus.CounterValue, cpuSeconds),
	containerFamily("container_memory_working_set_bytes", "Current working set in bytes.", prometheus.GaugeValue, workingSet),
	containerFamily("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed",
		prometheus.GaugeValue, func(u runtime.Usage) float64 { return float64(u.Memory) }),
	containerFamily("container_memory_rss", "Size of RSS in bytes.", prometheus.GaugeValue, func(u runtime.Usage) float64 { return float64(u.RSS) }),
	containerFamily("container_processes", "Number of processes running inside the container.", prometheus.GaugeValue,
		func(u runtime.Usage) float64 { return float64(u.Processes) }),
}

var resourceFamilies = []family{
	containerFamily("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", prometheus.CounterValue, cpuSeconds),
	containerFamily("container_memory_working_set_bytes", "Current working set of the container in bytes", prometheus.GaugeValue, workingSet),
	podFamily("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", prometheus.CounterValue, cpuSeconds),
	podFamily("pod_memory_working_set_bytes", "Current working set of the pod in bytes", prometheus.GaugeValue, workingSet),
}

// usageCollector reads the cgroups at every scrape; it holds nothing.
type usageCollector struct {
	s        *server
	families []family
}

// Describe implements prometheus.Collector.
func (c *usageCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector. A pod that goes away meanwhile is left out.
func (c *usageCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	c.s.each(ctx, func(p podworker.Pod, st runtime.PodStats) {
		for _, f := range c.families {
			if f.pod {
				ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(st.Pod), p.Namespace, p.Name)
				continue
			}
			for _, ct := range p.Observed.Containers {
				if u, ok := st.Containers[ct.ID]; ok && ct.State == runtime.Running {
					ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(u), ct.Name, p.Namespace, p.Name)
				}
			}
		}
	})
}

// each calls f for every running pod with what it uses.
func (s *server) each(ctx context.Context, f func(podworker.Pod, runtime.PodStats)) {
	for _, p := range s.Pods.Pods() {
		if p.Observed == nil || !p.Observed.Alive {
			continue
		}
		if st, err := s.Runtime.Stats(ctx, p.UID); err == nil {
			f(p, st)
		}
	}
}

// summary serves upstream's stats summary, as far as cgroups and CSI drivers tell.
func (s *server) summary(w http.ResponseWriter, r *http.Request) {
	out := stats.Summary{Node: s.nodeStats(), Pods: []stats.PodStats{}}
	measuring, cancel := context.WithTimeout(r.Context(), statsTimeout)
	defer cancel()
	s.each(r.Context(), func(p podworker.Pod, st runtime.PodStats) {
		now := metav1.Now()
		ps := stats.PodStats{
			PodRef:    stats.PodReference{Name: p.Name, Namespace: p.Namespace, UID: string(p.UID)},
			StartTime: metav1.NewTime(p.Observed.CreatedAt), Network: podNetwork(now, p), CPU: cpu(now, st.Pod), Memory: memory(now, st.Pod), Containers: []stats.ContainerStats{},
		}
		for _, c := range p.Observed.Containers {
			if u, ok := st.Containers[c.ID]; ok && c.State == runtime.Running {
				ps.Containers = append(ps.Containers, stats.ContainerStats{
					Name: c.Name, StartTime: metav1.NewTime(c.StartedAt), CPU: cpu(now, u), Memory: memory(now, u),
				})
			}
		}
		ps.VolumeStats = s.Volumes(measuring, p.Pod)
		out.Pods = append(out.Pods, ps)
	})
	s.json(w, out)
}

func cpu(now metav1.Time, u runtime.Usage) *stats.CPUStats {
	return &stats.CPUStats{Time: now, UsageCoreNanoSeconds: new(uint64(u.CPU.Nanoseconds()))}
}

func memory(now metav1.Time, u runtime.Usage) *stats.MemoryStats {
	return &stats.MemoryStats{Time: now, UsageBytes: new(u.Memory), WorkingSetBytes: new(u.WorkingSet), RSSBytes: new(u.RSS), PageFaults: new(u.PageFaults)}
}
