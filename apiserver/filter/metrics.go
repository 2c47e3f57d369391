package filter

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hardway/apiserver/request"
)

// Metrics count requests under upstream's names. Labels are bounded: groups, versions and resources are those of
// served kinds only, anything else is counted without them.
type Metrics struct {
	known func(group, version, resource, subresource string) bool

	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sli      *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	long     *prometheus.GaugeVec
	current  *prometheus.GaugeVec
	dropped  *prometheus.CounterVec
	panics   prometheus.Counter
	aborted  *prometheus.CounterVec
	cut      *prometheus.CounterVec
	expiring prometheus.Histogram

	series sync.Map // label -> *series
}

// label is what tells requests apart in the metrics.
type label struct {
	verb, group, version, resource, subresource, scope, dryRun string
	code                                                       int
}

// series are the metrics of one label, looked up once.
type series struct {
	total               prometheus.Counter
	duration, sli, size prometheus.Observer
}

var (
	durationBuckets = []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}
	sizeBuckets     = prometheus.ExponentialBuckets(1000, 10, 7)
)

// NewMetrics registers the metrics. Known says which resources and subresources are served.
func NewMetrics(reg prometheus.Registerer, known func(group, version, resource, subresource string) bool) *Metrics {
	where := []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	m := &Metrics{
		known: known,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code."},
			[]string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			Buckets: durationBuckets}, append([]string{"dry_run"}, where...)),
		sli: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_request_sli_duration_seconds",
			Help:    "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
			Buckets: durationBuckets}, where),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_response_sizes",
			Help: "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.", Buckets: sizeBuckets}, where),
		long: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests",
			Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way."}, where),
		current: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests",
			Help: "Number of currently used inflight request limit of this apiserver per request kind."}, []string{"request_kind"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_dropped_requests_total",
			Help: "Number of requests sent away because too many were in flight, per request kind."}, []string{"request_kind"}),
		aborted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_aborts_total",
			Help: "Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, resource, subresource and scope"},
			[]string{"verb", "group", "version", "resource", "subresource", "scope"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_terminations_total",
			Help: "Number of requests which apiserver terminated in self-defense."},
			[]string{"verb", "code", "group", "version", "resource", "subresource", "scope", "component"}),
		expiring: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "apiserver_client_certificate_expiration_seconds",
			Help:    "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
			Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000}}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_request_panics_total", Help: "Number of requests whose handler panicked."}),
	}
	reg.MustRegister(m.total, m.duration, m.sli, m.sizes, m.long, m.current, m.dropped, m.panics, m.aborted, m.cut, m.expiring)
	for _, kind := range []string{"readOnly", "mutating"} {
		m.current.WithLabelValues(kind).Set(0)
		m.dropped.WithLabelValues(kind).Add(0)
	}
	return m
}

func (m *Metrics) inFlight(kind string, n float64) { m.current.WithLabelValues(kind).Set(n) }
func (m *Metrics) rejected(kind string)            { m.dropped.WithLabelValues(kind).Inc() }
func (m *Metrics) panicked()                       { m.panics.Inc() }

// terminated counts an answer by which the server defends itself, or a request whose time was up.
func (m *Metrics) terminated(l label) {
	switch l.code {
	case http.StatusTooManyRequests:
	case http.StatusGatewayTimeout:
		m.aborted.WithLabelValues(l.verb, l.group, l.version, l.resource, l.subresource, l.scope).Inc()
	default:
		return
	}
	m.cut.WithLabelValues(l.verb, strconv.Itoa(l.code), l.group, l.version, l.resource, l.subresource, l.scope, "apiserver").Inc()
}

// certificate notes how long the certificate that a request came with will last.
func (m *Metrics) certificate(r *http.Request, now time.Time) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		m.expiring.Observe(r.TLS.PeerCertificates[0].NotAfter.Sub(now).Seconds())
	}
}

// labelOf describes a request for the metrics.
func (m *Metrics) labelOf(r *http.Request, info *request.Info) label {
	l := label{verb: metricVerb(r.Method, info)}
	if !info.IsResource || !m.known(info.Group, info.Version, info.Resource, info.Subresource) {
		return l
	}
	l.group, l.version, l.resource, l.subresource = info.Group, info.Version, info.Resource, info.Subresource
	switch {
	case info.Name != "" || info.Verb == "create":
		l.scope = "resource"
	case info.Namespace != "":
		l.scope = "namespace"
	default:
		l.scope = "cluster"
	}
	if info.Mutating() && r.URL.RawQuery != "" && r.URL.Query().Has("dryRun") {
		l.dryRun = "All"
	}
	return l
}

// metricVerb is upstream's spelling, from a closed set.
func metricVerb(method string, info *request.Info) string {
	if info.IsResource {
		switch info.Subresource {
		case "exec", "attach", "portforward", "proxy":
			return "CONNECT"
		}
		switch info.Verb {
		case "get", "list", "watch", "delete", "deletecollection", "patch":
			return verbs[info.Verb]
		case "create":
			return "POST"
		case "update":
			return "PUT"
		case "proxy":
			return "CONNECT"
		}
		return "other"
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

var verbs = map[string]string{
	"get": "GET", "list": "LIST", "watch": "WATCH", "delete": "DELETE", "deletecollection": "DELETECOLLECTION", "patch": "PATCH",
}

// of finds the metrics of a label.
func (m *Metrics) of(l label) *series {
	if s, ok := m.series.Load(l); ok {
		return s.(*series)
	}
	where := []string{l.verb, l.group, l.version, l.resource, l.subresource, l.scope, "apiserver"}
	s := &series{
		total: m.total.WithLabelValues(l.verb, l.dryRun, l.group, l.version, l.resource, l.subresource, l.scope, "apiserver", strconv.Itoa(l.code)),
		size:  m.sizes.WithLabelValues(where...),
	}
	if l.verb != "WATCH" && l.verb != "CONNECT" {
		s.duration = m.duration.WithLabelValues(append([]string{l.dryRun}, where...)...)
		s.sli = m.sli.WithLabelValues(where...)
	}
	kept, _ := m.series.LoadOrStore(l, s)
	return kept.(*series)
}

// measure counts and times each request and, when the log shows debug lines, writes the access log.
func (c *chain) measure(next http.Handler) http.Handler {
	debug := c.Log.Core().Enabled(zap.DebugLevel)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := c.Now()
		state := request.StateOf(r.Context())
		rw, ok := w.(*writer)
		if !ok {
			rw = newWriter(w)
		}
		l := c.Metrics.labelOf(r, state.Info)
		if state.Info.LongRunning() && l.resource != "" {
			g := c.Metrics.long.WithLabelValues(l.verb, l.group, l.version, l.resource, l.subresource, l.scope, "apiserver")
			g.Inc()
			defer g.Dec()
		}
		returned := false
		defer func() { // runs for a panic as well, which the outermost filter answers
			code := rw.status
			switch {
			case code == 0 && returned:
				code = http.StatusOK
			case code == 0:
				code = http.StatusInternalServerError
			}
			l.code = code
			took := c.Now().Sub(start)
			c.Metrics.terminated(l)
			c.Metrics.of(l).count(rw.bytes, took, state.Info.LongRunning())
			if debug {
				access(c.Log, r, state, code, rw.bytes, took)
			}
		}()
		next.ServeHTTP(rw, r)
		returned = true
	})
}

// count adds one request.
func (s *series) count(bytes int64, took time.Duration, long bool) {
	s.total.Inc()
	if s.duration != nil && !long {
		s.duration.Observe(took.Seconds())
		s.sli.Observe(took.Seconds())
	}
	if bytes > 0 {
		s.size.Observe(float64(bytes))
	}
}

func access(log *zap.Logger, r *http.Request, state *request.State, code int, bytes int64, took time.Duration) {
	user := ""
	if state.User != nil {
		user = state.User.Name
	}
	log.Debug("request", zap.String("verb", state.Info.Verb), zap.String("uri", r.RequestURI), zap.Int("code", code),
		zap.Int64("bytes", bytes), zap.Duration("took", took), zap.String("user", user),
		zap.String("agent", state.UserAgent), zap.String("audit", state.ID))
}
