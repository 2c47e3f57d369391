package authn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
)

func TestWebhook(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		var q authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.APIVersion != "authentication.k8s.io/v1beta1" || q.Kind != "TokenReview" {
			t.Errorf("asked %+v: %v", q, err)
		}
		switch q.Spec.Token {
		case "good":
			q.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "ann", UID: "7", Groups: []string{"dev"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}
		case "vault":
			q.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"vault"}}
		case "broken":
			w.WriteHeader(http.StatusBadRequest)
			return
		case "old":
			q.Status.Error = "it has expired"
		}
		json.NewEncoder(w).Encode(q) //nolint:errcheck // the client sees it
	}))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("clusters: [{name: a, cluster: {server: %q}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a", s.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	w, err := OpenWebhook(WebhookOptions{Kubeconfig: path, Version: "v1beta1", Remember: time.Minute, Audiences: []string{"api"}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		token     string
		audiences []string
		after     time.Duration
		want      string
		asked     int
	}{
		{"good", nil, 0, "ann 7 [dev system:authenticated] map[k:[v]] for [api]", 1},
		{"good", nil, 0, "ann 7 [dev system:authenticated] map[k:[v]] for [api]", 1},
		{"good", []string{"api", "x"}, 0, "for [api]", 2},
		{"good", []string{"x"}, 0, `the token is for the audiences ["api"], not for ["x"]`, 3},
		{"vault", []string{"vault"}, 0, "for [vault]", 4},
		{"vault", nil, 0, `the token is for the audiences ["vault"], not for ["api"]`, 5},
		{"bad", nil, 0, "unknown token", 6},
		{"bad", nil, 0, "unknown token", 6},
		{"old", nil, 0, "authentication webhook: it has expired", 7},
		{"broken", nil, 0, "the answer is 400 Bad Request", 8},
		{"broken", nil, 0, "the answer is 400 Bad Request", 9},
		{"good", nil, time.Minute, "ann 7", 10},
	} {
		now = now.Add(c.after)
		id, err := w.Authenticate(t.Context(), c.token, c.audiences)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(id.User.Name, " ", id.User.UID, " ", id.User.Groups, " ", id.User.Extra, " for ", id.Audiences)
		}
		if !strings.Contains(got, c.want) || asked != c.asked {
			t.Errorf("step %d: %s, want %s; asked %d times, want %d", i, got, c.want, asked, c.asked)
		}
	}
}
