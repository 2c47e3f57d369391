package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hardway/apiserver/authn"
	"hardway/apiserver/authz"
	"hardway/apiserver/discovery"
	"hardway/apiserver/etcd"
	"hardway/apiserver/filter"
	"hardway/apiserver/judge"
	"hardway/apiserver/kinds"
	"hardway/apiserver/openapi"
	"hardway/apiserver/registry"
	"hardway/apiserver/request"
	"hardway/apiserver/store"
)

// env is the real handler on real registries and a real etcd, reached over plain HTTP as the user jane.
type env struct {
	t   *testing.T
	url string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zaptest.NewLogger(t).Level()+1))
	member, err := etcd.Start(t.Context(), etcd.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Stop)
	all := kinds.All()
	set := registry.NewSet(registry.Options{
		Kinds: all, Store: store.New(member.Client(), store.Options{Revision: member.Revision()}), Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); set.Run(ctx) }() //nolint:errcheck // ends with ctx
	t.Cleanup(func() { cancel(); <-done })
	if err := set.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }) //nolint:errcheck // a test's answer
	s, routes := New(Options{
		Kinds: all, Scheme: kinds.Scheme(), Registries: set, Discovery: discovery.New(all, "192.0.2.1:6443"), OpenAPI: openapi.New(all),
		Version: version.Info{GitVersion: "v1.36.3"}, Health: ok, Debug: ok, Judge: &judge.Judge{Authorizer: authz.AlwaysAllow{}}, Ending: ctx, Log: log,
	})
	h := filter.New(filter.Options{
		Log: log, Metrics: filter.NewMetrics(prometheus.NewRegistry(), s.Known), Authorizer: authz.AlwaysAllow{}, Fail: Fail, Timeout: time.Minute,
		Authenticate: func(r *http.Request) (*request.UserInfo, error) {
			if r.TLS == nil {
				return nil, authn.ErrUnauthorized
			}
			return authn.FromCertificate(r.TLS.PeerCertificates[0]), nil
		},
	}, routes)
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "jane", Organization: []string{"devs"}}, NotAfter: time.Now().Add(time.Hour)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Anonymous") == "" {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	t.Cleanup(cancel)
	e := &env{t: t, url: server.URL}
	e.must("POST", "/api/v1/namespaces", `{"metadata":{"name":"dev"}}`)
	return e
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   string
}

// do sends a request; headers are "Name: value".
func (e *env) do(method, path, body string, headers ...string) answer {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	if method == "PATCH" {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	r.Header.Set("User-Agent", "test/1")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

// must sends a request that has to succeed.
func (e *env) must(method, path, body string, headers ...string) answer {
	e.t.Helper()
	a := e.do(method, path, body, headers...)
	if a.code >= 300 {
		e.t.Fatalf("%s %s: %d %s", method, path, a.code, a.body)
	}
	return a
}

// status reads a Status out of an answer.
func (a answer) status(t *testing.T) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("no Status: %v: %q", err, a.body)
	}
	return s
}

// client is client-go's, speaking JSON or protobuf.
func (e *env) client(contentType string) kubernetes.Interface {
	e.t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{Host: e.url, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: contentType, AcceptContentTypes: contentType}})
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}
