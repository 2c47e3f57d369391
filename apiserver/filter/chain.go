package filter

import (
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/authn"
	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// Options are what the chain is made of. All fields are needed but Now.
type Options struct {
	Log        *zap.Logger
	Metrics    *Metrics
	Authorizer authz.Authorizer
	// Fail writes an error as a Status.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// MaxReads and MaxWrites bound the requests in flight, long-running ones apart; 0 means no bound.
	MaxReads, MaxWrites int
	// Timeout is the deadline of a request that is not long-running.
	Timeout time.Duration
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
		c.authorize, c.deadline, c.inFlight, c.authenticate, c.measure, c.describe, c.recover,
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

// authenticate finds out who asks; 401 when it cannot. Impersonation is refused for as long as nothing decides about
// it.
func (c *chain) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := authn.Authenticate(r, c.Now())
		if err != nil {
			c.Fail(w, r, apierrors.NewUnauthorized("Unauthorized"))
			return
		}
		request.StateOf(r.Context()).User = user
		for _, name := range []string{"Impersonate-User", "Impersonate-Group", "Impersonate-Uid"} {
			if r.Header.Get(name) != "" {
				c.Fail(w, r, apierrors.NewForbidden(schema.GroupResource{Resource: "users"}, r.Header.Get(name),
					errors.New("impersonation is not served: send the request as the user itself")))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// authorize asks whether the user may; 403 with the reason when not.
func (c *chain) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, info := request.User(r.Context()), request.From(r.Context())
		decision, reason, err := c.Authorizer.Authorize(r.Context(), user, info)
		if decision == authz.Allow {
			next.ServeHTTP(w, r)
			return
		}
		if err != nil {
			c.Fail(w, r, apierrors.NewInternalError(err))
			return
		}
		msg := authz.Forbidden(user, info)
		if reason != "" {
			msg += ": " + reason
		}
		c.Fail(w, r, apierrors.NewForbidden(schema.GroupResource{Group: info.Group, Resource: info.Resource}, info.Name, errors.New(msg)))
	})
}
