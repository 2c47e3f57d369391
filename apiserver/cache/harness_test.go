package cache

import (
	"fmt"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

var pods = resource.Define(scheme.Scheme, resource.Spec[corev1.Pod]{
	Names:   resource.Names{Version: "v1", Kind: "Pod", Plural: "pods"},
	Scope:   resource.Namespaced,
	Fields:  map[string]func(*corev1.Pod) string{"spec.nodeName": func(p *corev1.Pod) string { return p.Spec.NodeName }},
	Indexed: []string{"spec.nodeName"},
})

const prefix = "/registry/pods/"

// harness is a cache that a test feeds by hand, without etcd.
type harness struct {
	*Cache
	t   testing.TB
	rev int64
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	f := NewFeed(store.New(nil, store.Options{}), Options{Log: zap.NewNop()})
	h := &harness{Cache: f.Add(pods, nil), t: t, rev: 10}
	h.fill(nil, nil, h.rev)
	f.rev.Store(h.rev)
	return h
}

// pod makes a pod; node and app select it.
func pod(namespace, name, node, app string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	if app != "" {
		p.Labels = map[string]string{"app": app}
	}
	return p
}

// put writes objects at one revision each, as one batch, and returns the last revision.
func (h *harness) put(list ...*corev1.Pod) int64 {
	h.t.Helper()
	var b store.Batch
	for _, p := range list {
		h.rev++
		value, err := h.codec.Encode(p)
		if err != nil {
			h.t.Fatal(err)
		}
		b.Events = append(b.Events, store.Event{KV: store.KV{Key: h.Key(p.Namespace, p.Name), Value: value, Rev: h.rev}})
	}
	b.Rev = h.rev
	h.feed.apply(h.t.Context(), b)
	return h.rev
}

func (h *harness) delete(namespace, name string) int64 {
	h.rev++
	h.feed.apply(h.t.Context(), store.Batch{Rev: h.rev, Events: []store.Event{
		{KV: store.KV{Key: h.Key(namespace, name), Rev: h.rev}, Deleted: true},
	}})
	return h.rev
}

// sel parses selectors.
func (h *harness) sel(namespace, label, field string) *Selection {
	h.t.Helper()
	l, err := labels.Parse(label)
	if err != nil {
		h.t.Fatal(err)
	}
	f, err := fields.ParseSelector(field)
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := Select(pods, namespace, l, f)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *harness) watch(sel *Selection, o WatchOptions) *Watcher {
	h.t.Helper()
	w, err := h.Watch(sel, o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(w.Stop)
	return w
}

func show(e Event) string {
	s := string(e.Type)
	if e.Item != nil {
		s += " " + e.Item.Namespace + "/" + e.Item.Name
	}
	if e.InitialEnd {
		s += " end"
	}
	return fmt.Sprintf("%s@%d", s, e.Rev)
}

// names lists a snapshot's objects with their revisions.
func names(s *Snapshot, sel *Selection) []string {
	var out []string
	for it := range s.All(sel, "") {
		out = append(out, fmt.Sprintf("%s/%s@%d", it.Namespace, it.Name, it.Rev))
	}
	return out
}
