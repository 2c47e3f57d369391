package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/config"
	"hardway/controllers/control"
	"hardway/controllers/workload/replicaset"
	"hardway/shared/client"
)

// gate holds up what watches of a resource bring, as a network or a server does that is in trouble.
type gate struct {
	resource string
	mu       sync.Mutex
	open     chan struct{} // closed while news pass
}

func newGate(resource string) *gate {
	g := &gate{resource: resource, open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

func (g *gate) wait(ctx context.Context) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	case <-ctx.Done():
	}
}

// wrap puts the gate into a client's transport.
func (g *gate) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/"+g.resource) && r.URL.Query().Get("watch") != "" {
			resp.Body = &gated{ReadCloser: resp.Body, gate: g, ctx: r.Context()}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type gated struct {
	io.ReadCloser
	gate *gate
	ctx  context.Context
}

func (b *gated) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.gate.wait(b.ctx)
	return n, err
}

// TestLateWatch holds up the news of pods while a ReplicaSet is made and changed again and again: there must never be
// more pods than asked for.
func TestLateWatch(t *testing.T) {
	c := newCluster(t)
	late := newGate("pods")
	cfg := c.api.Config()
	cfg.WrapTransport = late.wrap
	api, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	env := control.Env{
		Config: config.Default(), API: api, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		Informers: client.NewInformers(api, zap.NewNop()), Events: client.NewRecorder(api, "test", ""),
	}
	runner, err := replicaset.New(env)
	if err != nil {
		t.Fatal(err)
	}
	parts.Go(func() { env.Informers.Run(ctx) }) //nolint:errcheck // ends with ctx
	if !env.Informers.WaitForSync(ctx) {
		t.Fatal("no caches")
	}
	parts.Go(func() { runner.Run(ctx) }) //nolint:errcheck // ends with ctx
	c.start("--controllers=serviceaccount-controller")
	ns := c.namespace("late")

	late.hold()
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(10)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("v1"),
		},
	}
	if _, err := client.ReplicaSets.Create(t.Context(), c.api, set); err != nil {
		t.Fatal(err)
	}
	have := func(want int) func() string {
		return func() string {
			if n := len(c.pods(ns)); n != want {
				return fmt.Sprintf("%d pods, want %d", n, want)
			}
			return ""
		}
	}
	c.eventually("ten pods, though none is seen", have(10))
	for i := range 20 {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"n":"%d"}}}`, i)
		if _, err := client.ReplicaSets.Patch(t.Context(), c.api, ns, "web", types.MergePatchType, patch); err != nil {
			t.Fatal(err)
		}
	}
	c.steadily("no more", have(10))
	if _, err := client.ReplicaSets.Patch(t.Context(), c.api, ns, "web", types.MergePatchType, []byte(`{"spec":{"replicas":13}}`)); err != nil {
		t.Fatal(err)
	}
	c.eventually("three more, still unseen", have(13))
	c.steadily("no more", have(13))
	if _, err := client.ReplicaSets.Patch(t.Context(), c.api, ns, "web", types.MergePatchType, []byte(`{"spec":{"replicas":4}}`)); err != nil {
		t.Fatal(err)
	}
	c.steadily("none can be chosen to go", have(13))
	late.release()
	c.eventually("four are left when the news arrive", have(4))
	late.hold()
	if _, err := client.ReplicaSets.Patch(t.Context(), c.api, ns, "web", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`)); err != nil {
		t.Fatal(err)
	}
	c.eventually("two go", have(2))
	for i := range 20 {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"n":"x%d"}}}`, i)
		if _, err := client.ReplicaSets.Patch(t.Context(), c.api, ns, "web", types.MergePatchType, patch); err != nil {
			t.Fatal(err)
		}
	}
	c.steadily("no more go, though the cache shows four", have(2))
	late.release()
}
