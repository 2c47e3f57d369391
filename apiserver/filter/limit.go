package filter

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/request"
)

const (
	// patience is how long a request waits for its turn before it is sent away.
	patience = 3 * time.Second
	// crowd is how many may wait for each one in flight; more are sent away at once.
	crowd = 10
	// comeBack is the Retry-After of a request that was sent away, in seconds.
	comeBack = 1
)

// limit bounds requests in flight. A full limit lets a bounded crowd wait for a while: a burst is smoothed, and
// nothing piles up.
type limit struct {
	slots   chan struct{} // nil: no bound
	waiting atomic.Int64
	running atomic.Int64
}

func newLimit(n int) *limit {
	if n <= 0 {
		return &limit{}
	}
	return &limit{slots: make(chan struct{}, n)}
}

// enter waits for a slot; false means that the request must be sent away.
func (l *limit) enter(ctx context.Context) bool {
	if l.slots == nil {
		return true
	}
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > int64(cap(l.slots)*crowd) {
		return false
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (l *limit) leave() {
	if l.slots != nil {
		<-l.slots
	}
}

// inFlight bounds the requests that are served at the same time, reads and writes apart. Long-running requests, health
// checks and system:masters are not counted: an operator gets in when the server is full.
func (c *chain) inFlight(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.StateOf(r.Context())
		if state.Info.LongRunning() || !state.Info.IsResource || state.User.In(request.Masters) {
			next.ServeHTTP(w, r)
			return
		}
		l, kind := c.reads, "readOnly"
		if state.Info.Mutating() {
			l, kind = c.writes, "mutating"
		}
		if !l.enter(r.Context()) {
			w.Header().Set("Retry-After", strconv.Itoa(comeBack))
			c.Metrics.rejected(kind)
			c.Fail(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", comeBack))
			return
		}
		c.Metrics.inFlight(kind, float64(l.running.Add(1)))
		defer func() {
			c.Metrics.inFlight(kind, float64(l.running.Add(-1)))
			l.leave()
		}()
		next.ServeHTTP(w, r)
	})
}

// deadline ends the context of a request that is not long-running after the server's timeout, or the shorter one of
// ?timeout=.
func (c *chain) deadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.From(r.Context())
		if info.LongRunning() {
			next.ServeHTTP(w, r)
			return
		}
		timeout, err := wishedTimeout(r, c.Timeout)
		if err != nil {
			c.Fail(w, r, apierrors.NewBadRequest(err.Error()))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// wishedTimeout reads ?timeout=34s, which can only make the server's timeout shorter.
func wishedTimeout(r *http.Request, most time.Duration) (time.Duration, error) {
	if r.URL.RawQuery == "" {
		return most, nil
	}
	text := r.URL.Query().Get("timeout")
	if text == "" {
		return most, nil
	}
	wish, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	if wish <= 0 {
		return most, nil
	}
	return min(wish, most), nil
}
