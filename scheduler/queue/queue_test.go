package queue_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/devices"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/queue"
)

var start = time.Unix(1000, 0)

type world struct {
	*queue.Queue
	columns *framework.Columns
	now     time.Time
}

func newWorld() *world {
	columns := framework.NewColumns()
	return &world{queue.New([]*framework.Profile{plugins.Default("default-scheduler", &plugins.Needs{Columns: columns})}, queue.Options{}), columns, start}
}

func (w *world) pod(name string, change ...func(*corev1.Pod)) *framework.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.Spec.SchedulerName = "default-scheduler"
	for _, c := range change {
		c(p)
	}
	return framework.NewPod(p, w.columns)
}

func generation(n int64) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Generation = n } }

// pop returns the name of the next pod after some time, "" when none is ready.
func (w *world) pop(after time.Duration) string {
	w.now = w.now.Add(after)
	if p := w.Pop(w.now); p != nil {
		return p.Name
	}
	return ""
}

func priority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func TestOrder(t *testing.T) {
	w := newWorld()
	w.Set(w.pod("first"), w.now)
	w.Set(w.pod("second"), w.now)
	w.Set(w.pod("urgent", priority(10)), w.now.Add(time.Second))
	w.Set(w.pod("foreign", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }), w.now)
	for _, want := range []string{"urgent", "first", "second", ""} {
		if got := w.pop(0); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestBackoffDoubles(t *testing.T) {
	w := newWorld()
	w.Set(w.pod("p"), w.now)
	w.pop(0)
	for _, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
		w.Fail("p", nil, w.now)
		if got := w.pop(pause*time.Second - time.Millisecond); got != "" {
			t.Fatalf("ready before its pause of %d s was over", pause)
		}
		if got := w.pop(time.Millisecond); got != "p" {
			t.Fatalf("not ready after its pause of %d s", pause)
		}
	}
}

func TestUnschedulablePodsWaitForWhatHelps(t *testing.T) {
	node := &framework.Node{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, Allocatable: framework.Vector{1000, 1 << 30, 0, 10}}
	small := &framework.Node{Node: node.Node, Allocatable: framework.Vector{0, 0, 0, 0}}
	for name, test := range map[string]struct {
		change framework.Change
		after  time.Duration
		want   string
	}{
		"a node with room":                 {framework.Change{What: framework.NodeAdded, Node: node}, 2 * time.Second, "p"},
		"a node with room, during backoff": {framework.Change{What: framework.NodeAdded, Node: node}, 500 * time.Millisecond, "p"},
		"a node without room":              {framework.Change{What: framework.NodeAdded, Node: small}, 2 * time.Second, ""},
		"nothing for long":                 {framework.Change{What: framework.NodeAdded, Node: small}, 5 * time.Minute, "p"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.Set(w.pod("p"), w.now)
			w.pop(0)
			w.Fail("p", []string{"NodeResourcesFit"}, w.now)
			w.Changed(test.change, w.now)
			if got := w.pop(test.after); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestBackoffYields: a pod that has been woken serves its backoff only as long as others want to be tried.
func TestBackoffYields(t *testing.T) {
	node := &framework.Node{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, Allocatable: framework.Vector{1000, 1 << 30, 0, 10}}
	w := newWorld()
	w.Set(w.pod("refused", priority(9)), w.now)
	w.pop(0)
	w.Fail("refused", []string{"NodeResourcesFit"}, w.now)
	w.Set(w.pod("other"), w.now)
	w.Changed(framework.Change{What: framework.NodeAdded, Node: node}, w.now)
	for _, want := range []string{"other", "refused", ""} {
		if got := w.pop(0); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestChangesOfThePodItself(t *testing.T) {
	gated := func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "quota"}} }
	selects := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }
	t.Run("the last gate goes", func(t *testing.T) {
		w := newWorld()
		if gate := w.Set(w.pod("p", gated), w.now); gate == nil || w.pop(time.Hour) != "" {
			t.Error("a gated pod was ready")
		}
		w.Set(w.pod("p"), w.now)
		if w.pop(0) != "p" {
			t.Error("not ready without its gate")
		}
	})
	t.Run("an unschedulable pod asks for less", func(t *testing.T) {
		w := newWorld()
		w.Set(w.pod("p", selects), w.now)
		w.pop(0)
		w.Fail("p", []string{"NodeAffinity"}, w.now)
		w.Set(w.pod("p", selects), w.now)
		if w.pop(10*time.Second) != "" {
			t.Error("a change that scheduling does not read woke it")
		}
		w.Set(w.pod("p", generation(2)), w.now)
		if w.pop(0) != "p" {
			t.Error("not ready after its selector went")
		}
	})
	t.Run("deleted while it is being tried", func(t *testing.T) {
		w := newWorld()
		w.Set(w.pod("p"), w.now)
		w.pop(0)
		w.Remove("p")
		w.Fail("p", nil, w.now)
		if w.pop(time.Hour) != "" {
			t.Error("came back")
		}
	})
}

// TestGateOpens holds a pod until its claim is there, which no change of the pod tells of.
func TestGateOpens(t *testing.T) {
	inventory, columns := devices.New(), framework.NewColumns()
	w := &world{queue.New([]*framework.Profile{plugins.Default("default-scheduler", &plugins.Needs{Columns: columns, Devices: inventory})}, queue.Options{}), columns, start}
	claim := "c"
	gate := w.Set(w.pod("p", func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: &claim}}
	}), w.now)
	if gate == nil || w.pop(0) != "" {
		t.Fatalf("gate %v", gate)
	}
	other := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}}
	inventory.SetClaim(other)
	w.Changed(framework.Change{What: framework.DevicesChanged, Object: other}, w.now)
	if got := w.pop(0); got != "" {
		t.Errorf("%q ready without its claim", got)
	}
	own := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: claim, UID: "u"}}
	inventory.SetClaim(own)
	w.Changed(framework.Change{What: framework.DevicesChanged, Object: own}, w.now)
	if got := w.pop(0); got != "p" {
		t.Errorf("got %q once the claim is there", got)
	}
}
