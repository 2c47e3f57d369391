package filter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/authn"
	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// refuses forbids one user.
type refuses string

func (n refuses) Authorize(_ context.Context, user *request.UserInfo, _ *request.Info) (authz.Decision, string, error) {
	if user.Name == string(n) {
		return authz.Deny, "not you", nil
	}
	return authz.Allow, "", nil
}

// chainOf puts the filters before a handler and returns a function that sends one request as a user.
func chainOf(h http.HandlerFunc, change func(*Options)) (send func(ctx context.Context, user, method, url string) *httptest.ResponseRecorder, m *Metrics) {
	m = NewMetrics(prometheus.NewRegistry(), func(_, _, resource, sub string) bool { return resource == "pods" && (sub == "" || sub == "log") })
	o := Options{
		Log: zap.NewNop(), Metrics: m, Authorizer: refuses("mallory"), Timeout: time.Minute,
		Authenticate: func(r *http.Request) (*request.UserInfo, error) {
			if r.TLS == nil || r.TLS.PeerCertificates[0].Subject.CommonName == "" {
				return nil, authn.ErrUnauthorized
			}
			return authn.FromCertificate(r.TLS.PeerCertificates[0]), nil
		},
		Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
			var api apierrors.APIStatus
			if !errors.As(err, &api) {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			http.Error(w, api.Status().Message, int(api.Status().Code))
		},
	}
	if change != nil {
		change(&o)
	}
	chain := New(o, h)
	return func(ctx context.Context, user, method, url string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, method, url, nil)
		group := "users"
		if user == "root" {
			group = request.Masters
		}
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: user, Organization: []string{group}}, NotAfter: time.Now().Add(time.Hour)}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		w := httptest.NewRecorder()
		chain.ServeHTTP(w, r)
		return w
	}, m
}

func TestARequestPassesWithAllThatIsKnownAboutIt(t *testing.T) {
	send, m := chainOf(func(w http.ResponseWriter, r *http.Request) {
		s := request.StateOf(r.Context())
		if s.User.Name != "jane" || s.Info.Resource != "pods" || s.ID == "" {
			t.Errorf("state %+v", s)
		}
		if _, ok := r.Context().Deadline(); !ok {
			t.Error("no deadline")
		}
		w.WriteHeader(http.StatusTeapot)
		w.Write([]byte("tea")) //nolint:errcheck // a recorder
	}, nil)
	w := send(t.Context(), "jane", "GET", "/api/v1/namespaces/dev/pods/p")
	if w.Code != http.StatusTeapot || w.Header().Get("Audit-Id") == "" || w.Header().Get("Cache-Control") != "no-cache, private" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if n := testutil.ToFloat64(m.total.WithLabelValues("GET", "", "", "v1", "pods", "", "resource", "apiserver", "418")); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

func TestRefusals(t *testing.T) {
	send, m := chainOf(func(http.ResponseWriter, *http.Request) { t.Error("the handler was reached") }, nil)
	for _, test := range []struct {
		name, user, url string
		code            int
		message         string
	}{
		{"not authorized", "mallory", "/api/v1/pods", 403, `pods is forbidden: User "mallory" cannot list resource "pods" in API group "" at the cluster scope: not you`},
		{"nobody", "", "/api/v1/pods", 401, "Unauthorized"},
		{"no path", "jane", "/api/v1/watch", 400, "unable to determine kind and namespace from url"},
		{"bad timeout", "jane", "/api/v1/pods?timeout=x", 400, "invalid duration"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if w := send(t.Context(), test.user, "GET", test.url); w.Code != test.code || !strings.Contains(w.Body.String(), test.message) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	// A stranger cannot blow up the metrics by inventing names.
	for _, path := range []string{"/apis/x1/v1/y", "/apis/x2/v1/y", "/api/v1/namespaces/d/pods/p/z1", "/api/v1/namespaces/d/pods/p/z2"} {
		send(t.Context(), "", "GET", path)
	}
	if n := testutil.CollectAndCount(m.total); n > 6 {
		t.Errorf("%d series", n)
	}
}

func TestPanicsAreCaught(t *testing.T) {
	send, m := chainOf(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("late") {
			w.Write([]byte("half")) //nolint:errcheck // a recorder
		}
		panic("oops")
	}, nil)
	if w := send(t.Context(), "jane", "GET", "/api/v1/pods"); w.Code != 500 || strings.Contains(w.Body.String(), "oops") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
				t.Error("a half answer was not aborted")
			}
		}()
		send(t.Context(), "jane", "GET", "/api/v1/pods?late")
	}()
	if n := testutil.ToFloat64(m.panics); n != 2 {
		t.Errorf("%v panics counted", n)
	}
	if n := testutil.ToFloat64(m.total.WithLabelValues("LIST", "", "", "v1", "pods", "", "cluster", "apiserver", "500")); n != 1 {
		t.Errorf("the failed request was counted %v times", n)
	}
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		send, m := chainOf(func(http.ResponseWriter, *http.Request) { <-release }, func(o *Options) { o.MaxReads, o.MaxWrites = 1, 1 })
		codes := make(chan int, 10)
		get := func(user, url string) { codes <- send(t.Context(), user, "GET", url).Code }
		go get("jane", "/api/v1/pods")
		synctest.Wait()
		go get("root", "/api/v1/pods")         // an operator always gets in
		go get("jane", "/api/v1/pods?watch=1") // lasts, so it does not count
		go get("jane", "/readyz")              // is no resource
		go get("jane", "/api/v1/pods")         // waits in vain
		synctest.Wait()
		if n := testutil.ToFloat64(m.current.WithLabelValues("readOnly")); n != 1 {
			t.Errorf("%v in flight", n)
		}
		<-time.After(patience + time.Second)
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Errorf("code %d, want 429", code)
		}
		go get("jane", "/api/v1/pods") // waits until there is room
		synctest.Wait()
		close(release)
		for range 5 {
			if code := <-codes; code != http.StatusOK {
				t.Errorf("code %d", code)
			}
		}
		if n := testutil.ToFloat64(m.dropped.WithLabelValues("readOnly")); n != 1 {
			t.Errorf("%v dropped", n)
		}
	})
}

func TestDeadlines(t *testing.T) {
	for url, want := range map[string]time.Duration{
		"/api/v1/pods": time.Minute, "/api/v1/pods?timeout=5s": 5 * time.Second, "/api/v1/pods?timeout=5h": time.Minute,
		"/api/v1/pods?watch=1": 0, "/api/v1/namespaces/d/pods/p/log": 0,
	} {
		send, _ := chainOf(func(_ http.ResponseWriter, r *http.Request) {
			end, ok := r.Context().Deadline()
			if ok != (want > 0) || ok && time.Until(end).Round(time.Second) != want {
				t.Errorf("%s: deadline in %s, %v", url, time.Until(end), ok)
			}
		}, nil)
		send(t.Context(), "jane", "GET", url)
	}
}

// looks may get everything, and do nothing else.
type looks struct{}

func (looks) Authorize(_ context.Context, _ *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	if info.Verb == "get" {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

// TestEnteringTakesCreate: a WebSocket begins with a GET, but who may only get must not run commands.
func TestEnteringTakesCreate(t *testing.T) {
	send, _ := chainOf(func(http.ResponseWriter, *http.Request) {}, func(o *Options) { o.Authorizer = looks{} })
	const pod = "/api/v1/namespaces/ns/pods/p"
	for path, want := range map[string]int{
		pod: http.StatusOK, pod + "/log": http.StatusOK, pod + "/exec": http.StatusForbidden, pod + "/attach": http.StatusForbidden, pod + "/portforward": http.StatusForbidden,
	} {
		w := send(t.Context(), "ann", "GET", path)
		if w.Code != want || want == http.StatusForbidden && !strings.Contains(w.Body.String(), "cannot create resource") {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
}
