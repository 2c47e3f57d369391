package garbage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/cleanup/resources"
)

var (
	pods   = &resources.Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Kind: "Pod", Namespaced: true}
	sets   = &resources.Resource{GroupVersionResource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}, Kind: "ReplicaSet", Namespaced: true}
	nodes  = &resources.Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "nodes"}, Kind: "Node"}
	served = resources.Set{All: []resources.Resource{*pods, *sets, *nodes}}
)

func namespaced(ref metav1.OwnerReference) (yes, known bool) {
	r, ok := served.ByKind(groupOf(ref), ref.Kind)
	return r.Namespaced, ok
}

// world feeds a graph and collects what it wants looked at.
type world struct {
	t       *testing.T
	g       *graph
	version int
	looks   []string
}

func (w *world) note(uids []types.UID) {
	for _, uid := range uids {
		w.looks = append(w.looks, string(uid))
	}
}

// looked returns what was to be looked at since the last call.
func (w *world) looked() string {
	slices.Sort(w.looks)
	out := strings.Join(slices.Compact(w.looks), " ")
	w.looks = nil
	return out
}

type objectOption func(*metav1.ObjectMeta)

func owned(kind, uid string, block bool) objectOption {
	return func(m *metav1.ObjectMeta) {
		version := "v1"
		if kind == "ReplicaSet" {
			version = "apps/v1"
		}
		m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{APIVersion: version, Kind: kind, Name: uid, UID: types.UID(uid), BlockOwnerDeletion: &block})
	}
}

func deleting(finalizers ...string) objectOption {
	return func(m *metav1.ObjectMeta) { m.DeletionTimestamp, m.Finalizers = &metav1.Time{}, finalizers }
}

func in(namespace string) objectOption {
	return func(m *metav1.ObjectMeta) { m.Namespace = namespace }
}

func (w *world) see(r *resources.Resource, name string, options ...objectOption) {
	w.version++
	obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: fmt.Sprint(w.version)}}
	if r.Namespaced {
		obj.Namespace = "ns"
	}
	for _, o := range options {
		o(&obj.ObjectMeta)
	}
	w.note(w.g.observe(r, obj))
}

func (w *world) plan(name string) plan {
	w.t.Helper()
	v, ok := w.g.see(types.UID(name), namespaced, time.Now().Add(2*settling))
	if !ok {
		w.t.Fatalf("%s is not known", name)
	}
	return makePlan(v)
}

func newWorld(t *testing.T) *world { return &world{t: t, g: newGraph()} }

func TestOwnerGoes(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set")
	w.see(pods, "pod", owned("ReplicaSet", "set", true))
	if got := w.looked(); got != "" {
		t.Errorf("looked at %s though all is well", got)
	}
	if p := w.plan("pod"); p.action != nothing {
		t.Errorf("plan with a living owner: %+v", p)
	}
	w.note(w.g.remove("set", true))
	if got := w.looked(); got != "pod" {
		t.Errorf("looked at %q, want pod", got)
	}
	if p := w.plan("pod"); p.action != remove || p.policy != metav1.DeletePropagationBackground {
		t.Errorf("plan: %+v", p)
	}
	w.note(w.g.remove("pod", true))
	if n := w.g.size(); n != 0 {
		t.Errorf("%d objects are still known", n)
	}
}

func TestOwnerMissingFromAListIsNoProof(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set")
	w.see(pods, "pod", owned("ReplicaSet", "set", true))
	w.note(w.g.remove("set", false))
	if got := w.looked(); got != "pod" {
		t.Errorf("looked at %q, want pod", got)
	}
	if p := w.plan("pod"); p.action != later {
		t.Errorf("deleted on doubt: %+v", p)
	}
	w.see(sets, "set")
	if p := w.plan("pod"); p.action != nothing {
		t.Errorf("the owner is back: %+v", p)
	}
}

func TestOwnerNotSeenYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.see(pods, "pod", owned("ReplicaSet", "set", true))
		if got := w.looked(); got != "pod" {
			t.Errorf("looked at %q", got)
		}
		stand := func() standing {
			v, _ := w.g.see("pod", namespaced, time.Now())
			return v.owners[0].standing
		}
		if s := stand(); s != settled {
			t.Errorf("at once: %v", s)
		}
		time.Sleep(2 * settling)
		if s := stand(); s != unsure {
			t.Errorf("later: %v", s)
		}
		w.see(sets, "set")
		if got := w.looked(); got != "pod" || stand() != solid {
			t.Errorf("when it shows: looked at %q, %v", got, stand())
		}
	})
}

func TestOneOfTwoOwnersGoes(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "a")
	w.see(sets, "b")
	w.see(pods, "pod", owned("ReplicaSet", "a", true), owned("ReplicaSet", "b", true))
	w.note(w.g.remove("a", true))
	if p := w.plan("pod"); p.action != dropRefs || !slices.Equal(p.drop, []types.UID{"a"}) {
		t.Errorf("plan: %+v", p)
	}
}

func TestForeground(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set")
	w.see(pods, "blocking", owned("ReplicaSet", "set", true))
	w.see(pods, "free", owned("ReplicaSet", "set", false))
	w.looked()
	w.see(sets, "set", deleting(metav1.FinalizerDeleteDependents))
	if got := w.looked(); got != "blocking free set" {
		t.Errorf("looked at %q", got)
	}
	if p := w.plan("set"); p.action != chase || !slices.Equal(p.chase, []types.UID{"blocking"}) {
		t.Errorf("owner: %+v", p)
	}
	if p := w.plan("blocking"); p.action != remove || p.policy != metav1.DeletePropagationBackground {
		t.Errorf("dependent: %+v", p)
	}
	w.note(w.g.remove("blocking", true))
	if got := w.looked(); got != "set" {
		t.Errorf("looked at %q, want set", got)
	}
	if p := w.plan("set"); p.action != finish {
		t.Errorf("owner without blocking dependents: %+v", p)
	}
}

func TestForegroundGoesDown(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "top", deleting(metav1.FinalizerDeleteDependents))
	w.see(sets, "middle", owned("ReplicaSet", "top", true))
	w.see(pods, "leaf", owned("ReplicaSet", "middle", true))
	if p := w.plan("middle"); p.action != remove || p.policy != metav1.DeletePropagationForeground || p.unblock {
		t.Errorf("plan: %+v", p)
	}
}

func TestCircle(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "a", owned("ReplicaSet", "b", true), deleting(metav1.FinalizerDeleteDependents))
	w.see(sets, "b", owned("ReplicaSet", "a", true))
	if p := w.plan("b"); p.action != remove || p.policy != metav1.DeletePropagationForeground || !p.unblock {
		t.Errorf("plan: %+v", p)
	}
}

func TestOrphan(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set")
	w.see(pods, "pod", owned("ReplicaSet", "set", true))
	w.looked()
	w.see(sets, "set", deleting(metav1.FinalizerOrphanDependents))
	if got := w.looked(); got != "set" {
		t.Errorf("looked at %q", got)
	}
	if p := w.plan("set"); p.action != orphan {
		t.Errorf("plan: %+v", p)
	}
}

func TestAcrossNamespaces(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set", in("far"))
	w.see(pods, "pod", owned("ReplicaSet", "set", true))
	stand := func(name string) standing {
		v, _ := w.g.see(types.UID(name), namespaced, time.Now().Add(2*settling))
		return v.owners[0].standing
	}
	if s := stand("pod"); s != unsure {
		t.Errorf("an owner elsewhere: %v, want a look at the place that the reference names", s)
	}
	w.see(nodes, "node", owned("ReplicaSet", "set", true))
	if s := stand("node"); s != unusable {
		t.Errorf("an object outside of namespaces: %v", s)
	}
	if p := w.plan("node"); p.action != nothing {
		t.Errorf("plan: %+v", p)
	}
	w.see(pods, "wrong-name", func(m *metav1.ObjectMeta) {
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "another", UID: "set"}}
		m.Namespace = "far"
	})
	if s := stand("wrong-name"); s != unsure {
		t.Errorf("an owner by another name: %v", s)
	}
}

func TestOldNewsIsNoNews(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set")
	w.see(pods, "pod", owned("ReplicaSet", "set", true))
	w.note(w.g.observe(pods, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "pod", ResourceVersion: "1"}}))
	v, _ := w.g.see("pod", namespaced, time.Now())
	if len(v.owners) != 1 {
		t.Error("an older version took the owners away")
	}
	w.note(w.g.remove("pod", true))
	w.see(pods, "pod")
	if n := w.g.size(); n != 2 { // a uid that is gone does not come back, but without dependents nothing is remembered of it
		t.Errorf("%d objects", n)
	}
}

func TestOwnersChange(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "a", deleting(metav1.FinalizerDeleteDependents))
	w.see(sets, "b")
	w.see(pods, "pod", owned("ReplicaSet", "a", true))
	w.looked()
	w.see(pods, "pod", owned("ReplicaSet", "b", true))
	if got := w.looked(); got != "a" {
		t.Errorf("looked at %q, want the owner that waits", got)
	}
	if p := w.plan("a"); p.action != finish {
		t.Errorf("plan: %+v", p)
	}
}

func TestTermsBegin(t *testing.T) {
	w := newWorld(t)
	w.see(sets, "set", deleting(metav1.FinalizerOrphanDependents))
	w.see(pods, "pod", owned("ReplicaSet", "set", true))
	w.see(pods, "alone")
	w.note(w.g.everyDependent())
	if got := w.looked(); got != "pod set" {
		t.Errorf("looked at %q", got)
	}
}
