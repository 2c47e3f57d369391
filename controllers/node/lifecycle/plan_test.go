package lifecycle

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func node(ready corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	}
	for _, t := range taints {
		n.Spec.Taints = append(n.Spec.Taints, taint(t))
	}
	return n
}

func taint(text string) corev1.Taint {
	for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
		if key := text[:max(0, len(text)-len(effect)-1)]; text == key+":"+string(effect) {
			return corev1.Taint{Key: key, Effect: effect}
		}
	}
	panic(text)
}

func texts(taints []corev1.Taint) []string {
	out := []string{}
	for _, t := range taints {
		out = append(out, t.Key+":"+string(t.Effect))
	}
	return out
}

const (
	notReady = corev1.TaintNodeNotReady
	gone     = corev1.TaintNodeUnreachable
)

func TestPlan(t *testing.T) {
	pressed := node(corev1.ConditionTrue)
	pressed.Status.Conditions = append(pressed.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
	cordoned := node(corev1.ConditionTrue, "mine:NoSchedule")
	cordoned.Spec.Unschedulable = true
	tests := []struct {
		name    string
		node    *corev1.Node
		silence time.Duration
		lost    bool
		unknown int // conditions that become Unknown
		taints  []string
		evict   bool
	}{
		{"ready", node(corev1.ConditionTrue), time.Second, false, 0, []string{}, false},
		{"ready again", node(corev1.ConditionTrue, notReady+":NoSchedule", notReady+":NoExecute", "mine:NoExecute"), time.Second, false, 0, []string{"mine:NoExecute"}, false},
		{"not ready", node(corev1.ConditionFalse), time.Second, false, 0, []string{notReady + ":NoSchedule", notReady + ":NoExecute"}, true},
		{"not ready for long", node(corev1.ConditionFalse, notReady+":NoSchedule", notReady+":NoExecute"), time.Second, false, 0, []string{notReady + ":NoSchedule", notReady + ":NoExecute"}, false},
		{"registered, not heard of yet", node("", notReady+":NoSchedule"), time.Second, false, 0, []string{notReady + ":NoSchedule"}, false},
		{"silent", node(corev1.ConditionTrue), 41 * time.Second, true, 4, []string{gone + ":NoSchedule", gone + ":NoExecute"}, true},
		{"never heard of, within the time to start", node(""), 50 * time.Second, false, 0, []string{}, false},
		{"never heard of", node(""), 61 * time.Second, true, 4, []string{gone + ":NoSchedule", gone + ":NoExecute"}, true},
		{"disk full", pressed, 0, false, 0, []string{corev1.TaintNodeDiskPressure + ":NoSchedule"}, false},
		{"cordoned", cordoned, 0, false, 0, []string{"mine:NoSchedule", corev1.TaintNodeUnschedulable + ":NoSchedule"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := facts{node: tt.node, silence: tt.silence, grace: 40 * time.Second, startup: time.Minute, now: now}
			p := makePlan(f)
			if p.lost != tt.lost || len(p.conditions) != tt.unknown || p.evict != tt.evict || !slices.Equal(texts(p.taints), tt.taints) {
				t.Errorf("lost %t, %d conditions, evict %t, taints %v", p.lost, len(p.conditions), p.evict, texts(p.taints))
			}
			if !tt.lost && p.again <= 0 {
				t.Error("a living node is not looked at again")
			}
			after := tt.node.DeepCopy()
			after.Status.Conditions, after.Spec.Taints = merged(after.Status.Conditions, p.conditions), p.taints
			f.node = after
			if again := makePlan(f); len(again.conditions) > 0 || again.evict || !sameTaints(again.taints, after.Spec.Taints) {
				t.Errorf("a second plan: %+v", again)
			}
		})
	}
}

func TestZones(t *testing.T) {
	for _, tt := range []struct {
		name       string
		zone, all  tally
		ok         bool
		wantsEvery time.Duration
	}{
		{"one of many", tally{9, 1}, tally{9, 1}, true, normalEvery},
		{"all of all zones", tally{0, 3}, tally{0, 9}, false, 0},
		{"a whole zone, others live", tally{0, 3}, tally{6, 3}, true, normalEvery},
		{"most of a small zone", tally{2, 8}, tally{20, 8}, false, secondaryEvery},
		{"most of a large zone", tally{30, 70}, tally{30, 70}, true, secondaryEvery},
	} {
		every, ok := interval(tt.zone, tt.all, normalEvery)
		if ok != tt.ok || every != tt.wantsEvery {
			t.Errorf("%s: %v, %t", tt.name, every, ok)
		}
	}
	z := newZones(normalEvery)
	healthy := tally{9, 2}
	if ok, _ := z.allow("a", healthy, healthy, now); !ok {
		t.Error("the first is refused")
	}
	if ok, wait := z.allow("a", healthy, healthy, now.Add(time.Second)); ok || wait != 9*time.Second {
		t.Errorf("the second: %t, wait %v", ok, wait)
	}
	if ok, _ := z.allow("b", healthy, healthy, now); !ok {
		t.Error("another zone is refused")
	}
}

// TestSilenceIsByArrival renews with clocks that are wrong by a day: only the arrivals count.
func TestSilenceIsByArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeartbeats()
		renew := func(offset time.Duration) {
			at := metav1.NewMicroTime(time.Now().Add(offset))
			h.lease(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: coordinationv1.LeaseSpec{RenewTime: &at}}, time.Now())
		}
		h.node(node(corev1.ConditionTrue), time.Now())
		for i, offset := range []time.Duration{24 * time.Hour, -24 * time.Hour, 0} {
			time.Sleep(10 * time.Second)
			renew(offset)
			if s := h.silence("n1", time.Now()); s != 0 {
				t.Errorf("renewal %d: silence %v", i, s)
			}
		}
		time.Sleep(15 * time.Second)
		h.node(node(corev1.ConditionTrue), time.Now()) // another change of the node is no sign of life
		if s := h.silence("n1", time.Now()); s != 15*time.Second {
			t.Errorf("silence %v", s)
		}
		h.forget("n1")
		if s := h.silence("n1", time.Now()); s != 0 {
			t.Errorf("forgotten: %v", s)
		}
	})
}

func TestEvictionIsHeldBack(t *testing.T) {
	n := node(corev1.ConditionUnknown, gone+":NoSchedule")
	all, _ := makeTaints(n, n.Status.Conditions, now)
	if got := fmt.Sprint(texts(withoutNew(all, n))); got != fmt.Sprint([]string{gone + ":NoSchedule"}) {
		t.Errorf("held back: %s", got)
	}
	n.Spec.Taints = all
	if got := len(withoutNew(all, n)); got != 2 {
		t.Error("a taint that is there is held back")
	}
	if got := len(withoutEviction(all)); got != 1 {
		t.Error("full disruption leaves NoExecute")
	}
}
