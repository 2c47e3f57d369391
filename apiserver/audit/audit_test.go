package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"hardway/apiserver/request"
)

const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

func policy(t *testing.T, text string) *Policy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(head+text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChoose(t *testing.T) {
	p := policy(t, `
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch], resources: [{resources: [endpoints, services]}]}
- {level: None, userGroups: ["system:authenticated"], nonResourceURLs: ["/api*", /version]}
- {level: Request, resources: [{resources: [configmaps]}], namespaces: [kube-system]}
- {level: Metadata, resources: [{resources: [secrets, pods/log]}], omitStages: [ResponseStarted]}
- {level: RequestResponse, resources: [{group: apps, resources: ["*/status", "deployments/*"]}]}
- {level: Request, resources: [{group: batch}]}
- {level: Metadata, resources: [{resources: [configmaps], resourceNames: [one]}], omitManagedFields: true}
`)
	user := func(name string) *request.UserInfo {
		return &request.UserInfo{Name: name, Groups: []string{request.Authenticated}}
	}
	for _, c := range []struct {
		who  *request.UserInfo
		info request.Info
		want Level
	}{
		{user("system:kube-proxy"), request.Info{IsResource: true, Verb: "watch", Resource: "services"}, None},
		{user("a"), request.Info{IsResource: true, Verb: "get", Resource: "secrets", Name: "x"}, Metadata},
		{user("a"), request.Info{IsResource: true, Verb: "get", Resource: "pods", Subresource: "log"}, Metadata},
		{user("a"), request.Info{IsResource: true, Verb: "get", Resource: "pods"}, None},
		{user("a"), request.Info{Path: "/apis/apps/v1", Verb: "get"}, None},
		{user("a"), request.Info{IsResource: true, Namespace: "kube-system", Resource: "configmaps"}, Request},
		{user("a"), request.Info{IsResource: true, Namespace: "x", Resource: "configmaps"}, None},
		{user("a"), request.Info{IsResource: true, Namespace: "x", Resource: "configmaps", Name: "one"}, Metadata},
		{user("a"), request.Info{IsResource: true, Group: "apps", Resource: "deployments", Subresource: "scale"}, RequestResponse},
		{user("a"), request.Info{IsResource: true, Group: "apps", Resource: "daemonsets", Subresource: "status"}, RequestResponse},
		{user("a"), request.Info{IsResource: true, Group: "apps", Resource: "deployments"}, None},
		{user("a"), request.Info{IsResource: true, Group: "batch", Resource: "jobs"}, Request},
		{nil, request.Info{IsResource: true, Resource: "secrets"}, Metadata},
		{nil, request.Info{Path: "/version", Verb: "get"}, None},
	} {
		if got := p.choose(c.who, &c.info); got.level != c.want {
			t.Errorf("%+v: %s, want %s", c.info, got.level, c.want)
		}
	}
}

func TestBadPolicies(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Policy\nrules: [{level: None}]": "is not a Policy",
		head:                                     "at least one",
		head + "rules: [{level: All}]":           `rules[0].level: "All"`,
		head + "rules: [{level: None, verb: x}]": "verb",
		head + "rules: [{level: None, omitStages: [End]}]":                      `rules[0].omitStages: "End"`,
		head + "rules: [{level: None, nonResourceURLs: [healthz]}]":             "must begin with /",
		head + "rules: [{level: None, nonResourceURLs: [/a], namespaces: [x]}]": "neither resources nor namespaces",
		head + "rules: [{level: None, resources: [{resourceNames: [x]}]}]":      "resourceNames need resources",
		head + "rules: [{level: None, resources: [{group: apps/v1}]}]":          "must not name a version",
	} {
		path := filepath.Join(t.TempDir(), "p")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// world is an Auditor in front of a handler.
type world struct {
	t   *testing.T
	a   *Auditor
	reg *prometheus.Registry
	log string
}

func newWorld(t *testing.T, text string, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, reg: prometheus.NewRegistry(), log: filepath.Join(t.TempDir(), "audit.log")}
	o := Options{
		Policy: policy(t, text), Registry: w.reg, Errors: zap.NewNop(),
		Log: &LogOptions{Path: w.log, Buffer: Buffer{Mode: Blocking, Size: 10, Most: 10, Wait: time.Millisecond}},
		ToJSON: func(_ string, body []byte) (json.RawMessage, error) {
			if !json.Valid(body) {
				return nil, errors.New("no JSON")
			}
			return body, nil
		},
	}
	if change != nil {
		change(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.a = a
	return w
}

func (w *world) ask(method, path, body string, h http.HandlerFunc) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	info, err := request.Parse(r)
	if err != nil {
		w.t.Fatal(err)
	}
	r = r.WithContext(request.With(r.Context(), &request.State{Info: info, ID: "id", User: &request.UserInfo{Name: "jane"}}))
	rec := httptest.NewRecorder()
	w.a.Wrap(h, func(rw http.ResponseWriter, _ *http.Request, err error) {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}).ServeHTTP(rec, r)
	return rec
}

// events are those in the log, each as stage and code, with what else is asked for.
func (w *world) events() []Event {
	w.t.Helper()
	text, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []Event
	for line := range strings.Lines(string(text)) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func TestEvents(t *testing.T) {
	w := newWorld(t, "rules: [{level: RequestResponse, omitManagedFields: true}]", nil)
	w.ask("POST", "/api/v1/namespaces/ns/configmaps", `{"metadata":{"name":"c","managedFields":[1]}}`, func(rw http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		request.StateOf(r.Context()).Decision = "allow"
		request.Annotate(r.Context(), "note", "x")
		rw.WriteHeader(http.StatusCreated)
		io.WriteString(rw, `{"kind":"ConfigMap"}`) //nolint:errcheck // a recorder
	})
	got := w.events()
	if len(got) != 2 || got[0].Stage != RequestReceived || got[1].Stage != ResponseComplete {
		t.Fatalf("got %+v", got)
	}
	e := got[1]
	if e.User.Username != "jane" || e.ResponseStatus.Code != 201 || string(e.RequestObject) != `{"metadata":{"name":"c"}}` ||
		string(e.ResponseObject) != `{"kind":"ConfigMap"}` || e.Annotations[decisionAnnotation] != "allow" || e.Annotations["note"] != "x" ||
		e.ObjectRef.Resource != "configmaps" || e.ObjectRef.Namespace != "ns" || e.SourceIPs[0] != "192.0.2.1" || e.AuditID != "id" {
		t.Errorf("got %+v", e)
	}
}

func TestStages(t *testing.T) {
	w := newWorld(t, "rules: [{level: Metadata}]", nil)
	w.ask("GET", "/api/v1/pods?watch=1", "", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusOK) })
	func() {
		defer func() { _ = recover() }()
		w.ask("GET", "/api/v1/pods", "", func(http.ResponseWriter, *http.Request) { panic("x") })
	}()
	w.ask("GET", "/api/v1/namespaces/a/pods/p/exec", "", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusSwitchingProtocols) })
	var stages []string
	for _, e := range w.events() {
		stages = append(stages, string(e.Stage))
	}
	want := "RequestReceived ResponseStarted ResponseComplete RequestReceived Panic RequestReceived ResponseStarted ResponseComplete"
	if got := strings.Join(stages, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// stuck is a sink that never comes back, or fails.
type stuck struct{ err error }

func (s stuck) write(ctx context.Context, _ [][]byte) error {
	if s.err == nil {
		<-ctx.Done()
	}
	return s.err
}
func (stuck) close() {}

func TestASlowBackendDropsEvents(t *testing.T) {
	w := newWorld(t, "rules: [{level: Metadata, omitStages: [RequestReceived]}]", func(o *Options) { o.Log.Buffer = Buffer{Mode: Batch, Size: 5, Most: 1, Wait: time.Hour} })
	w.a.backends[0].sink = stuck{}
	for range 20 { // nobody empties the buffer
		w.ask("GET", "/api/v1/pods", "", func(http.ResponseWriter, *http.Request) {})
	}
	if got := testutil.ToFloat64(w.a.metrics.errors.WithLabelValues("log")); got != 15 {
		t.Errorf("%v events counted as lost, want 15", got)
	}
}

func TestAStrictBackendRefuses(t *testing.T) {
	w := newWorld(t, "rules: [{level: Metadata}]", func(o *Options) { o.Log.Buffer.Mode = BlockingStrict })
	w.a.backends[0].sink = stuck{errors.New("disk full")}
	served := false
	rec := w.ask("GET", "/api/v1/pods", "", func(http.ResponseWriter, *http.Request) { served = true })
	if rec.Code != http.StatusInternalServerError || served || testutil.ToFloat64(w.a.metrics.rejected) != 1 {
		t.Errorf("code %d, served %v", rec.Code, served)
	}
}

// TestWebhook: batches arrive, a server that is busy is asked again, and what waits at the end is sent.
func TestWebhook(t *testing.T) {
	var calls, events atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var list struct {
			Kind  string
			Items []Event
		}
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil || list.Kind != "EventList" {
			t.Errorf("%+v, %v", list, err)
		}
		events.Add(int32(len(list.Items)))
	}))
	defer server.Close()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: %q}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a\n", server.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "rules: [{level: Metadata}]", func(o *Options) {
		o.Log, o.Webhook = nil, &WebhookOptions{Kubeconfig: config, Backoff: time.Millisecond, Buffer: Buffer{Mode: Batch, Size: 100, Most: 7, Wait: time.Hour}}
	})
	for range 10 {
		w.ask("GET", "/api/v1/pods", "", func(http.ResponseWriter, *http.Request) {})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.a.Run(ctx)
	if events.Load() != 20 {
		t.Errorf("%d events in %d calls, want 20", events.Load(), calls.Load())
	}
}

func TestLargeObjects(t *testing.T) {
	w := newWorld(t, "rules: [{level: Request, omitStages: [RequestReceived]}]", nil)
	w.ask("POST", "/api/v1/namespaces/ns/configmaps", `"`+strings.Repeat("x", most)+`"`, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // only read
	})
	if e := w.events()[0]; e.RequestObject != nil || e.Annotations[truncatedAnnotation] != "true" {
		t.Errorf("%d bytes, %v", len(e.RequestObject), e.Annotations)
	}
}
