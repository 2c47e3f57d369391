package store

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hardway/apiserver/resource"
)

// operation is what is done to etcd, in upstream's words.
type operation int

const (
	opCreate operation = iota
	opUpdate
	opDelete
	opGet
	opList
)

var operations = [...]string{opCreate: "create", opUpdate: "update", opDelete: "delete", opGet: "get", opList: "list"}

// durationBuckets are upstream's.
var durationBuckets = []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}

// Metrics count and time what is asked of etcd, by the kind whose keys it is about. What is about no kind is counted
// without one.
type Metrics struct {
	total, failed *prometheus.CounterVec
	took          *prometheus.HistogramVec
	by            map[string]*[len(operations)]series // by storage key
}

type series struct {
	total, failed prometheus.Counter
	took          prometheus.Observer
}

// NewMetrics registers them, for these kinds.
func NewMetrics(reg prometheus.Registerer, kinds []*resource.Kind) *Metrics {
	labels := []string{"operation", "group", "resource"}
	m := &Metrics{
		total:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_requests_total", Help: "Etcd request counts for each operation and object type."}, labels),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_request_errors_total", Help: "Etcd failed request counts for each operation and object type."}, labels),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "etcd_request_duration_seconds",
			Help: "Etcd request latency in seconds for each operation and object type.", Buckets: durationBuckets}, labels),
		by: map[string]*[len(operations)]series{},
	}
	reg.MustRegister(m.total, m.failed, m.took)
	m.add("", "", "")
	for _, k := range kinds {
		m.add(k.StorageKey, k.Group, k.Plural)
	}
	return m
}

func (m *Metrics) add(storageKey, group, plural string) {
	s := new([len(operations)]series)
	for op, name := range operations {
		s[op] = series{m.total.WithLabelValues(name, group, plural), m.failed.WithLabelValues(name, group, plural), m.took.WithLabelValues(name, group, plural)}
	}
	m.by[storageKey] = s
}

// of finds the series of a key below the prefix: storage keys have one or two parts.
func (m *Metrics) of(rest string) *[len(operations)]series {
	one := strings.IndexByte(rest, '/')
	if one < 0 {
		return m.by[""]
	}
	if s := m.by[rest[:one]]; s != nil {
		return s
	}
	if two := strings.IndexByte(rest[one+1:], '/'); two >= 0 {
		if s := m.by[rest[:one+1+two]]; s != nil {
			return s
		}
	}
	return m.by[""]
}

// measure notes the outcome of an operation on a key. A race that is lost is no failure.
func (s *Store) measure(op operation, key string, begin time.Time, err error) {
	if s.metrics == nil {
		return
	}
	m := &s.metrics.of(strings.TrimPrefix(key, s.prefix+"/"))[op]
	m.total.Inc()
	m.took.Observe(time.Since(begin).Seconds())
	if err != nil && !expected(err) {
		m.failed.Inc()
	}
}
