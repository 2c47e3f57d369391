package filter

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/audit"
	"hardway/apiserver/authz"
	"hardway/apiserver/fairness"
	"hardway/apiserver/request"
)

// Options are what the chain is made of. All fields are needed but Audit and Now.
type Options struct {
	Log        *zap.Logger
	Metrics    *Metrics
	Authorizer authz.Authorizer
	// Authenticate finds out who sends a request.
	Authenticate func(r *http.Request) (*request.UserInfo, error)
	// Audit writes down what is asked and answered; nil: nothing is.
	Audit *audit.Auditor
	// Fail writes an error as a Status.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// MaxReads and MaxWrites bound the requests in flight, long-running ones apart; 0 means no bound.
	MaxReads, MaxWrites int
	// Gate shares the server out by priority and fairness, and Shares counts it; nil: MaxReads and MaxWrites alone hold.
	Gate   *fairness.Gate
	Shares *fairness.Metrics
	// Timeout is the deadline of a request that is not long-running.
	Timeout time.Duration
	// Draining says that the server stops and takes nothing new; nil: never.
	Draining func() bool
	// GoawayChance is how likely an HTTP/2 client is asked to connect anew, for each request.
	GoawayChance float64
	// Now is the clock, nil for the real one.
	Now func() time.Time
}

// chain carries the options through the filters.
type chain struct {
	Options
	reads, writes *limit
}

// New puts the filters in front of a handler.
func New(o Options, h http.Handler) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &chain{Options: o, reads: newLimit(o.MaxReads), writes: newLimit(o.MaxWrites)}
	for _, with := range []func(http.Handler) http.Handler{
		c.authorize, c.share, c.impersonate, c.deadline, c.audit, c.authenticate, c.drain, c.measure, c.describe, c.recover, c.roomy,
	} {
		h = with(h)
	}
	return h
}

// describe reads the URL, gives the request its id and its State.
func (c *chain) describe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := request.Parse(r)
		id := r.Header.Get("Audit-Id")
		if id == "" || len(id) > 64 {
			id = uuid.NewString()
		}
		h := w.Header()
		h["Audit-Id"] = []string{id}
		h["Cache-Control"] = []string{"no-cache, private"}
		r = r.WithContext(request.With(r.Context(), &request.State{Info: info, ID: id, UserAgent: r.UserAgent()}))
		if err != nil {
			c.Fail(w, r, apierrors.NewBadRequest(err.Error()))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate finds out who asks; 401 when it cannot.
func (c *chain) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := c.Authenticate(r)
		if err != nil {
			c.Log.Debug("refused to log in", zap.String("from", r.RemoteAddr), zap.String("path", r.URL.Path), zap.Error(err))
			if c.Audit != nil {
				c.Audit.Refused(r)
			}
			c.Fail(w, r, apierrors.NewUnauthorized("Unauthorized"))
			return
		}
		c.Metrics.certificate(r, c.Now())
		request.StateOf(r.Context()).User = user
		next.ServeHTTP(w, r)
	})
}

// audit writes down requests of users who are known.
func (c *chain) audit(next http.Handler) http.Handler {
	if c.Audit == nil {
		return next
	}
	return c.Audit.Wrap(next, c.Fail)
}

// authorize asks whether the user may; 403 with the reason when not.
func (c *chain) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.StateOf(r.Context())
		decision, reason, err := c.Authorizer.Authorize(r.Context(), state.User, state.Info)
		asked := state.Info
		if decision == authz.Allow && enters(asked) {
			may := *asked
			may.Verb = "create"
			asked = &may
			decision, reason, err = c.Authorizer.Authorize(r.Context(), state.User, asked)
		}
		if decision == authz.Allow {
			state.Decision, state.Allowed = "allow", reason
			next.ServeHTTP(w, r)
			return
		}
		if err != nil {
			c.Log.Warn("authorize", zap.String("user", state.User.Name), zap.String("path", r.URL.Path), zap.Error(err))
			reason = strings.TrimSpace(reason + "\n" + err.Error())
		}
		state.Decision, state.Allowed = "forbid", reason
		c.Fail(w, r, refuse(state.User, asked, reason))
	})
}

// enters says that a request goes into a pod by a GET, as WebSockets begin: that takes the right to create, too, because
// who may only look must not run commands.
func enters(i *request.Info) bool {
	if !i.IsResource || i.Group != "" || i.Resource != "pods" || i.Verb != "get" {
		return false
	}
	return i.Subresource == "exec" || i.Subresource == "attach" || i.Subresource == "portforward"
}
