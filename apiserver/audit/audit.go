// Package audit writes down who did what: for each request as many Events as the policy asks for, to a log file, a
// webhook or both.
//
// A request never waits for a backend that is slow or away, unless the backend is told to block: events go through a
// bounded buffer, and what does not fit is dropped and counted.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/request"
)

// Options are what an Auditor is made of. Policy is needed, and one backend at least.
type Options struct {
	Policy   *Policy
	Log      *LogOptions     // nil: no log file
	Webhook  *WebhookOptions // nil: no webhook
	Registry prometheus.Registerer
	// ToJSON turns a body of a media type into JSON.
	ToJSON func(mediaType string, body []byte) (json.RawMessage, error)
	Errors *zap.Logger
}

// Auditor is the filter and its backends.
type Auditor struct {
	policy   *Policy
	backends []*backend
	toJSON   func(mediaType string, body []byte) (json.RawMessage, error)
	metrics  *metrics
}

type metrics struct {
	events   prometheus.Counter
	levels   *prometheus.CounterVec
	errors   *prometheus.CounterVec
	rejected prometheus.Counter
}

// New makes an Auditor. Nothing is written before Run.
func New(o Options) (*Auditor, error) {
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_event_total", Help: "Counter of audit events generated and sent to the audit backend."}),
		levels: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_audit_level_total", Help: "Counter of policy levels for audit events (1 per request)."}, []string{"level"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_audit_error_total",
			Help: "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error."}, []string{"plugin"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_requests_rejected_total", Help: "Counter of apiserver requests rejected due to an error in audit logging backend."}),
	}
	o.Registry.MustRegister(m.events, m.levels, m.errors, m.rejected)
	a := &Auditor{policy: o.Policy, toJSON: o.ToJSON, metrics: m}
	if o.Log != nil {
		a.add("log", o.Log.Buffer, newLog(*o.Log), o.Errors)
	}
	if o.Webhook != nil {
		sink, err := newWebhook(*o.Webhook)
		if err != nil {
			return nil, err
		}
		a.add("webhook", o.Webhook.Buffer, sink, o.Errors)
	}
	if len(a.backends) == 0 {
		return nil, errors.New("audit: a policy without a backend")
	}
	return a, nil
}

func (a *Auditor) add(name string, b Buffer, s sink, log *zap.Logger) {
	failed := a.metrics.errors.WithLabelValues(name)
	a.backends = append(a.backends, newBackend(b, s, failed, log.With(zap.String("backend", name))))
}

// Run feeds the backends until ctx ends, and then empties their buffers.
func (a *Auditor) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, b := range a.backends {
		running.Go(func() { b.run(ctx) })
	}
	running.Wait()
}

// Refused writes down a request whose sender could not be told: there is no user, and the answer is 401.
func (a *Auditor) Refused(r *http.Request) {
	rec := a.record(r)
	if rec == nil {
		return
	}
	rec.event(ResponseStarted, &metav1.Status{ //nolint:errcheck // counted
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonUnauthorized, Code: http.StatusUnauthorized,
		Message: "Authentication failed: no certificate, token or header of the request names a user that is known here",
	})
}

// Wrap writes down what goes through next. It stands behind authentication and in front of all that may refuse.
func (a *Auditor) Wrap(next http.Handler, fail func(w http.ResponseWriter, r *http.Request, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := a.record(r)
		if rec == nil {
			next.ServeHTTP(w, r)
			return
		}
		if err := rec.event(RequestReceived, nil); err != nil {
			a.metrics.rejected.Inc()
			fail(w, r, errors.New("the audit log could not be written, and so the request is not served"))
			return
		}
		rec.observe(r)
		tap := &tap{ResponseWriter: w, rec: rec}
		defer func() {
			if cause := recover(); cause != nil {
				rec.event(Panic, &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError}) //nolint:errcheck // counted
				panic(cause)
			}
			rec.complete(tap)
		}()
		next.ServeHTTP(tap, r)
	})
}

// record is one request that is written down.
type record struct {
	a        *Auditor
	r        *http.Request
	state    *request.State
	choice   choice
	received metav1.MicroTime
	sent     *capture // the request's body; nil: not wanted
}

// record begins one, nil when the policy does not want it.
func (a *Auditor) record(r *http.Request) *record {
	state := request.StateOf(r.Context())
	c := a.policy.choose(state.User, state.Info)
	a.metrics.levels.WithLabelValues(string(c.level)).Inc()
	if c.level == None {
		return nil
	}
	return &record{a: a, r: r, state: state, choice: c, received: metav1.NowMicro()}
}

// event writes down a stage. The error is that of a backend that blocks strictly.
func (c *record) event(stage Stage, status *metav1.Status) error {
	return c.send(c.describe(stage, status))
}

func (c *record) describe(stage Stage, status *metav1.Status) *Event {
	if slices.Contains(c.choice.omit, stage) {
		return nil
	}
	e := newEvent(c.choice.level, c.r, c.state, c.received)
	e.Stage, e.StageTimestamp, e.ResponseStatus = stage, metav1.NowMicro(), status
	if stage == RequestReceived {
		e.StageTimestamp = c.received
		return e
	}
	e.Annotations = c.notes()
	if obj := c.state.Sent; obj != nil && e.ObjectRef != nil {
		e.ObjectRef.name(obj)
	}
	if c.sent != nil && c.choice.level.atLeast(Request) {
		e.RequestObject = c.object(e, c.sent, c.r.Header.Get("Content-Type"))
	}
	return e
}

// notes are the annotations so far.
func (c *record) notes() map[string]string {
	out := c.state.Annotations()
	if c.state.Decision != "" {
		if out == nil {
			out = map[string]string{}
		}
		out[decisionAnnotation], out[reasonAnnotation] = c.state.Decision, c.state.Allowed
	}
	return out
}

// object is a body as JSON.
func (c *record) object(e *Event, body *capture, mediaType string) json.RawMessage {
	if body.over {
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		e.Annotations[truncatedAnnotation] = "true"
		return nil
	}
	if len(body.data) == 0 {
		return nil
	}
	text, err := c.a.toJSON(mediaType, body.data)
	if err != nil {
		return nil // not an object: the status says what was wrong with it
	}
	if c.choice.omitFields {
		text = withoutManagedFields(text)
	}
	return text
}

func (c *record) send(e *Event) error {
	if e == nil {
		return nil
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	c.a.metrics.events.Inc()
	var errs []error
	for _, b := range c.a.backends {
		errs = append(errs, b.offer(text, e.Stage))
	}
	return errors.Join(errs...)
}

// complete writes down the end of a request.
func (c *record) complete(t *tap) {
	e := c.describe(ResponseComplete, c.status(t.code()))
	if e != nil && t.body != nil {
		e.ResponseObject = c.object(e, t.body, t.Header().Get("Content-Type"))
	}
	c.send(e) //nolint:errcheck // the answer is out; failures are counted
}

// status is the outcome: of a refusal the whole Status, else the code.
func (c *record) status(code int) *metav1.Status {
	if failed := c.state.Failed(); failed != nil {
		return &metav1.Status{Status: failed.Status, Reason: failed.Reason, Message: failed.Message, Details: failed.Details, Code: failed.Code}
	}
	return &metav1.Status{Code: int32(code)} //nolint:gosec // three digits
}
