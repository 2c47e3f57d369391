package cache

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are a cache's, kept as plain numbers: they cost the hot path next to nothing and are read when somebody looks.
type counts struct {
	received, delivered, fills, cut atomic.Int64 // events, deliveries to watchers, fills, watchers that were too slow
	lists, returned                 atomic.Int64 // lists, objects given out for them
}

// Listed notes a list that returned some objects.
func (c *Cache) Listed(returned int) {
	c.counts.lists.Add(1)
	c.counts.returned.Add(int64(returned))
}

// figure is one metric of a cache.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(c *Cache) int64
	// index: there is a label for the index that was used; none is.
	index bool
}

var byResource = []string{"group", "resource"}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// figures have upstream's names.
var figures = []figure{
	{describe("apiserver_watch_cache_events_received_total", "Counter of events received in watch cache broken by resource type.", byResource...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.received.Load() }, false},
	{describe("apiserver_storage_events_received_total", "Number of etcd events received split by kind.", byResource...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.received.Load() }, false},
	{describe("apiserver_watch_cache_events_dispatched_total", "Counter of events dispatched in watch cache broken by resource type.", byResource...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.delivered.Load() }, false},
	{describe("apiserver_watch_cache_initializations_total", "Counter of watch cache initializations broken by resource type.", byResource...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.fills.Load() }, false},
	{describe("apiserver_terminated_watchers_total", "Counter of watchers closed due to unresponsiveness broken by resource type.", byResource...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.cut.Load() }, false},
	{describe("apiserver_watch_cache_resource_version", "Current resource version of watch cache broken by resource type.", byResource...),
		prometheus.GaugeValue, func(c *Cache) int64 { return c.revision() }, false},
	{describe("apiserver_resource_objects", "Number of stored objects at the time of last check split by kind.", byResource...),
		prometheus.GaugeValue, func(c *Cache) int64 { return c.objects() }, false},
	{describe("watch_cache_capacity", "Total capacity of watch cache broken by resource type.", byResource...),
		prometheus.GaugeValue, func(c *Cache) int64 { return c.capacity() }, false},
	{describe("apiserver_cache_list_total", "Number of LIST requests served from watch cache", append(byResource, "index")...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.lists.Load() }, true},
	{describe("apiserver_cache_list_returned_objects_total", "Number of objects returned for a LIST request from watch cache", byResource...),
		prometheus.CounterValue, func(c *Cache) int64 { return c.counts.returned.Load() }, false},
}

// memoDesc is this project's own: what shared encodings take.
var memoDesc = describe("hardway_apiserver_encodings_bytes", "Bytes of encoded objects that are remembered for further readers.")

// Feeds are the metrics of the caches of some feeds.
type Feeds []*Feed

// Describe implements prometheus.Collector.
func (fs Feeds) Describe(out chan<- *prometheus.Desc) {
	for _, fig := range figures {
		out <- fig.desc
	}
	out <- memoDesc
}

// Collect implements prometheus.Collector.
func (fs Feeds) Collect(out chan<- prometheus.Metric) {
	remembered := 0
	for _, f := range fs {
		remembered += f.memo.size()
		for _, c := range f.all() {
			for _, fig := range figures {
				labels := []string{c.kind.Group, c.kind.Plural}
				if fig.index {
					labels = append(labels, "")
				}
				out <- prometheus.MustNewConstMetric(fig.desc, fig.kind, float64(fig.of(c)), labels...)
			}
		}
	}
	out <- prometheus.MustNewConstMetric(memoDesc, prometheus.GaugeValue, float64(remembered))
}

// revision is the one that the cache's last change had.
func (c *Cache) revision() int64 {
	if s := c.current.Load(); s != nil {
		return s.Rev
	}
	return 0
}

func (c *Cache) objects() int64 {
	if s := c.current.Load(); s != nil {
		return int64(s.Len())
	}
	return 0
}

// capacity is how many changes the history has room for now.
func (c *Cache) capacity() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.history.ring))
}
