package chain

import (
	"strconv"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts questions and answers under CoreDNS's names. The counters of the usual labels are looked up once, not per question.
type Metrics struct {
	requests  [2][2][len(usualTypes) + 1]prometheus.Counter // by TCP, IPv6, type
	sizes     [2]prometheus.Observer                        // by TCP
	took      prometheus.Observer
	responses map[string]*[16]prometheus.Counter // by handler, rcode
	panics    prometheus.Counter
}

// usualTypes have a label of their own; all others are "other".
var usualTypes = [...]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypePTR, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY,
	dns.TypeHTTPS}

// NewMetrics registers the metrics. server is the value of that label, such as "dns://10.0.0.1:53".
func NewMetrics(server string, reg prometheus.Registerer) *Metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coredns_dns_requests_total",
		Help: "Counter of DNS requests made per zone, protocol and family."}, []string{"server", "zone", "view", "proto", "family", "type"})
	responses := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coredns_dns_responses_total", Help: "Counter of response status codes."},
		[]string{"server", "zone", "view", "rcode", "plugin"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_dns_request_duration_seconds",
		Help: "Histogram of the time (in seconds) each request took per zone.", Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16)},
		[]string{"server", "zone", "view"})
	sizes := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_dns_response_size_bytes", Help: "Size of the returned response in bytes.",
		Buckets: []float64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}}, []string{"server", "zone", "view", "proto"})
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "coredns_panics_total", Help: "A metrics that counts the number of panics."})
	reg.MustRegister(requests, responses, took, sizes, panics)

	m := &Metrics{took: took.WithLabelValues(server, ".", ""), panics: panics, responses: map[string]*[16]prometheus.Counter{}}
	for tcp, proto := range []string{"udp", "tcp"} {
		m.sizes[tcp] = sizes.WithLabelValues(server, ".", "", proto)
		for v6 := range 2 {
			for i := range m.requests[tcp][v6] {
				kind := "other"
				if i < len(usualTypes) {
					kind = dns.TypeToString[usualTypes[i]]
				}
				m.requests[tcp][v6][i] = requests.WithLabelValues(server, ".", "", proto, strconv.Itoa(v6+1), kind)
			}
		}
	}
	for _, by := range []string{"kubernetes", "forward", "none"} {
		m.responses[by] = new([16]prometheus.Counter)
		for rcode := range 16 {
			name, ok := dns.RcodeToString[rcode]
			if !ok {
				name = "other"
			}
			m.responses[by][rcode] = responses.WithLabelValues(server, ".", "", name, by)
		}
	}
	return m
}

func (m *Metrics) observe(kind uint16, p Peer, by string, rcode, size int, took time.Duration) {
	i := 0
	for i < len(usualTypes) && usualTypes[i] != kind {
		i++
	}
	tcp := index(p.TCP)
	m.requests[tcp][index(p.Addr.Is6())][i].Inc()
	m.responses[by][rcode].Inc()
	m.sizes[tcp].Observe(float64(size))
	m.took.Observe(took.Seconds())
}

// odd counts an answer to a message that was no ordinary query.
func (m *Metrics) odd(rcode int) { m.responses["none"][rcode&0xf].Inc() }

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}
