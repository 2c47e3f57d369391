package serve

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// volumeFamily is one figure of a volume of a claim.
type volumeFamily struct {
	desc  *prometheus.Desc
	value func(stats.FsStats) *uint64
}

func ofVolume(name, help string, value func(stats.FsStats) *uint64) volumeFamily {
	return volumeFamily{prometheus.NewDesc("kubelet_volume_stats_"+name, help, []string{"namespace", "persistentvolumeclaim"}, nil), value}
}

var volumeFamilies = []volumeFamily{
	ofVolume("capacity_bytes", "Capacity in bytes of the volume", func(s stats.FsStats) *uint64 { return s.CapacityBytes }),
	ofVolume("available_bytes", "Number of available bytes in the volume", func(s stats.FsStats) *uint64 { return s.AvailableBytes }),
	ofVolume("used_bytes", "Number of used bytes in the volume", func(s stats.FsStats) *uint64 { return s.UsedBytes }),
	ofVolume("inodes", "Maximum number of inodes in the volume", func(s stats.FsStats) *uint64 { return s.Inodes }),
	ofVolume("inodes_free", "Number of free inodes in the volume", func(s stats.FsStats) *uint64 { return s.InodesFree }),
	ofVolume("inodes_used", "Number of used inodes in the volume", func(s stats.FsStats) *uint64 { return s.InodesUsed }),
}

// volumeCollector shows the fill of claims. A claim that several pods share is shown once.
type volumeCollector struct{ s *server }

// Describe implements prometheus.Collector.
func (c volumeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range volumeFamilies {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c volumeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	shown := map[stats.PVCReference]bool{}
	for _, p := range c.s.Pods.Pods() {
		for _, v := range c.s.Volumes(ctx, p.Pod) {
			if v.PVCRef == nil || shown[*v.PVCRef] {
				continue
			}
			shown[*v.PVCRef] = true
			for _, f := range volumeFamilies {
				if n := f.value(v.FsStats); n != nil {
					ch <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue, float64(*n), v.PVCRef.Namespace, v.PVCRef.Name)
				}
			}
		}
	}
}
