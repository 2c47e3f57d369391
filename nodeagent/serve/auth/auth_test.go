package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
)

// reviewer knows the token "good" of user scraper, who may get nodes/metrics.
type reviewer struct {
	asked int
	down  bool
}

func (r *reviewer) Token(_ context.Context, token string) (authenticationv1.TokenReviewStatus, error) {
	r.asked++
	if r.down {
		return authenticationv1.TokenReviewStatus{}, errors.New("down")
	}
	return authenticationv1.TokenReviewStatus{Authenticated: token == "good", User: authenticationv1.UserInfo{Username: "scraper"}}, nil
}

func (r *reviewer) Access(_ context.Context, s authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	r.asked++
	if r.down {
		return authorizationv1.SubjectAccessReviewStatus{}, errors.New("down")
	}
	a := s.ResourceAttributes
	return authorizationv1.SubjectAccessReviewStatus{Allowed: s.User == "scraper" && a.Verb == "get" && a.Subresource == "metrics" && a.Name == "n1"}, nil
}

func TestGate(t *testing.T) {
	r := &reviewer{}
	g := New(Options{Node: "n1", Reviewer: r, Tokens: true, TokenTTL: time.Minute, AllowTTL: time.Minute, DenyTTL: time.Minute})
	h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "through") }), "/healthz")
	ask := func(path, token string) int {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Code
	}
	for _, tc := range []struct {
		path, token string
		want        int
	}{
		{"/healthz", "", 200}, {"/metrics", "", 401}, {"/metrics", "bad", 401}, {"/metrics", "good", 200}, {"/metrics/cadvisor", "good", 200},
		{"/exec/ns/pod/c", "good", 403}, {"/pods", "good", 403}, {"/stats/summary", "good", 403}, {"/", "good", 403},
	} {
		if got := ask(tc.path, tc.token); got != tc.want {
			t.Errorf("%s with %q: %d, want %d", tc.path, tc.token, got, tc.want)
		}
	}
	asked := r.asked
	r.down = true
	if got := ask("/metrics", "good"); got != 200 || r.asked != asked {
		t.Errorf("a kept answer was asked for again: %d", got)
	}
	if got := ask("/metrics", "other"); got != 401 {
		t.Errorf("without the apiserver a new token gets %d", got)
	}
}

func TestAttributes(t *testing.T) {
	for call, want := range map[string]string{
		"GET /exec/ns/p/c": "create proxy", "POST /run/ns/p/c": "create proxy", "GET /portForward/ns/p": "create proxy", "GET /containerLogs/ns/p/c": "get proxy",
		"GET /metrics/resource": "get metrics", "GET /stats/summary": "get stats", "GET /logs/": "get log", "GET /pods": "get pods proxy",
		"POST /checkpoint/ns/p/c": "create checkpoint", "GET /configz": "get configz proxy", "GET /debug/pprof/heap": "get proxy",
	} {
		method, path, _ := strings.Cut(call, " ")
		verb, subresources := Attributes(method, path)
		if got := verb + " " + strings.Join(subresources, " "); got != want {
			t.Errorf("%s: %s, want %s", call, got, want)
		}
	}
}
