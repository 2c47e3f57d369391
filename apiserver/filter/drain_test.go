package filter

import (
	"net/http"
	"testing"
)

// While the server drains, requests for resources are told to come back on a new connection; health and the like are
// still answered.
func TestDraining(t *testing.T) {
	draining := false
	send, _ := chainOf(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, func(o *Options) {
		o.Draining = func() bool { return draining }
	})
	if w := send(t.Context(), "jane", "GET", "/api/v1/pods"); w.Code != http.StatusOK || w.Header().Get("Connection") != "" {
		t.Errorf("before: %d %v", w.Code, w.Header())
	}
	draining = true
	for path, code := range map[string]int{
		"/api/v1/pods": http.StatusTooManyRequests, "/api/v1/pods?watch=1": http.StatusTooManyRequests, "/readyz": http.StatusOK, "/livez": http.StatusOK,
	} {
		w := send(t.Context(), "jane", "GET", path)
		refused := w.Header().Get("Retry-After") != "" && w.Header().Get("Connection") == "close"
		if w.Code != code || refused != (code != http.StatusOK) {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}
