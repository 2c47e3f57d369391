package filter

import (
	"math/rand/v2"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/request"
)

// drainRetry is the Retry-After of a request that comes while the server stops, in seconds: by then another server, or
// this one anew, answers.
const drainRetry = 5

// drain sends requests for resources away once the server stops, and now and then asks a client to connect anew, so that
// connections spread over all servers behind a load balancer. In HTTP/2 either is a GOAWAY: what is under way on the
// connection is finished.
func (c *chain) drain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case c.Draining != nil && c.Draining() && request.From(r.Context()).IsResource:
			w.Header()["Connection"] = []string{"close"}
			w.Header()["Retry-After"] = []string{strconv.Itoa(drainRetry)}
			c.Fail(w, r, apierrors.NewTooManyRequests("The apiserver is shutting down, please try again later.", drainRetry))
			return
		case c.GoawayChance > 0 && r.ProtoMajor == 2 && rand.Float64() < c.GoawayChance:
			w.Header()["Connection"] = []string{"close"}
		}
		next.ServeHTTP(w, r)
	})
}
