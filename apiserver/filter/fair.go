package filter

import (
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/fairness"
	"hardway/apiserver/request"
)

// share lets requests in by priority and fairness, and tells each to which schema and level it belongs. Requests that are
// meant to last take no seat. Without a gate the two bounds of requests in flight hold instead.
func (c *chain) share(next http.Handler) http.Handler {
	if c.Gate == nil {
		return c.inFlight(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.StateOf(r.Context())
		at := c.Gate.Find(func(p *fairness.Plan) fairness.Place { return p.Find(state.User, state.Info) })
		h := w.Header()
		h["X-Kubernetes-Pf-Flowschema-Uid"] = []string{at.SchemaUID}
		h["X-Kubernetes-Pf-Prioritylevel-Uid"] = []string{at.LevelUID}
		if state.Info.LongRunning() {
			next.ServeHTTP(w, r)
			return
		}
		running, kind := &c.reads.running, "readOnly"
		if state.Info.Mutating() {
			running, kind = &c.writes.running, "mutating"
		}
		leave, why := c.Gate.Enter(r.Context(), at, c.Timeout/4)
		c.Shares.Entered(at, why)
		if leave == nil {
			h.Set("Retry-After", strconv.Itoa(comeBack))
			c.Metrics.rejected(kind)
			c.Fail(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", comeBack))
			return
		}
		c.Metrics.inFlight(kind, float64(running.Add(1)))
		defer func() {
			c.Metrics.inFlight(kind, float64(running.Add(-1)))
			leave()
		}()
		next.ServeHTTP(w, r)
	})
}
