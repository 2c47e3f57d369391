package deployment

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newDeployment(n int32, surge, unavailable string) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "d", Generation: 1, Annotations: map[string]string{"note": "x", corev1.LastAppliedConfigAnnotation: "{}"}},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, ProgressDeadlineSeconds: new(int32(600)), RevisionHistoryLimit: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: new(intstr.Parse(surge)), MaxUnavailable: new(intstr.Parse(unavailable)),
			}},
		},
	}
	setImage(d, "v1")
	return d
}

func setImage(d *appsv1.Deployment, image string) {
	d.Generation++
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
}

// world is a cluster without an API: plans are applied to it, and its pods come and go by steps.
type world struct {
	t       *testing.T
	d       *appsv1.Deployment
	sets    []*appsv1.ReplicaSet
	now     time.Time
	serial  int
	events  []string
	running map[types.UID]int32 // pods of a ReplicaSet that have not ended
}

func newWorld(t *testing.T, d *appsv1.Deployment) *world {
	return &world{t: t, d: d, now: start, running: map[types.UID]int32{}}
}

func (w *world) facts() facts {
	return facts{deployment: w.d, sets: w.sets, now: w.now, oldPods: func(cur *appsv1.ReplicaSet) bool {
		for _, rs := range w.sets {
			if (cur == nil || rs.UID != cur.UID) && w.running[rs.UID] > 0 {
				return true
			}
		}
		return false
	}}
}

// pass makes a plan and applies all of it. It reports whether there was anything to do.
func (w *world) pass() bool {
	w.t.Helper()
	p, err := makePlan(w.facts())
	if err != nil {
		w.t.Fatal(err)
	}
	busy := p.create != nil || len(p.changes)+len(p.remove) > 0 || !equality.Semantic.DeepEqual(p.status, w.d.Status)
	if p.create != nil {
		w.serial++
		rs := p.create.DeepCopy()
		rs.UID, rs.Generation, rs.CreationTimestamp = types.UID(fmt.Sprint("rs", w.serial)), 1, metav1.NewTime(w.now.Add(time.Duration(w.serial)*time.Second))
		w.sets = append(w.sets, rs)
		w.events = append(w.events, fmt.Sprintf("+%d", replicas(rs)))
	}
	for _, c := range p.changes {
		at := slices.Index(w.sets, c.from)
		rs := c.to.DeepCopy()
		if replicas(rs) != replicas(c.from) {
			rs.Generation++
			w.events = append(w.events, fmt.Sprintf("%d->%d", replicas(c.from), replicas(rs)))
		}
		w.sets[at] = rs
	}
	for _, rs := range p.remove {
		w.sets = slices.DeleteFunc(w.sets, func(have *appsv1.ReplicaSet) bool { return have == rs })
	}
	if p.revision != "" {
		busy = busy || w.d.Annotations[RevisionAnnotation] != p.revision
		w.d.Annotations = maps.Clone(w.d.Annotations)
		w.d.Annotations[RevisionAnnotation] = p.revision
	}
	w.d.Status = p.status
	return busy
}

// step lets the ReplicaSet controller and the nodes do something: pods appear, become available, or end.
func (w *world) step(pick func(n int) int) {
	if len(w.sets) == 0 {
		return
	}
	at := pick(len(w.sets))
	rs := w.sets[at].DeepCopy()
	s := &rs.Status
	s.ObservedGeneration, s.TerminatingReplicas = rs.Generation, new(int32(0))
	switch want := replicas(rs); {
	case s.Replicas < want:
		s.Replicas++
	case s.Replicas > want:
		s.Replicas--
	case s.AvailableReplicas < s.Replicas && pick(2) == 0:
		s.AvailableReplicas++
	}
	s.AvailableReplicas = min(s.AvailableReplicas, s.Replicas)
	s.ReadyReplicas = s.AvailableReplicas
	w.running[rs.UID] = s.Replicas
	w.sets[at] = rs
	w.now = w.now.Add(time.Second)
}

// settle runs until neither plans nor pods move any more.
func (w *world) settle(check func()) {
	w.t.Helper()
	for range 2000 {
		moved := w.pass()
		check()
		if moved && w.pass() {
			w.t.Fatal("a plan that was applied leaves another one to apply")
		}
		before := fmt.Sprint(w.statuses())
		for i := range w.sets {
			w.step(func(n int) int { return i % n * min(n-1, 1) })
			w.step(func(n int) int {
				if n == 2 {
					return 0
				}
				return i % n
			})
		}
		if !moved && before == fmt.Sprint(w.statuses()) {
			return
		}
	}
	w.t.Fatalf("does not settle: %+v", w.d.Status)
}

func (w *world) statuses() []string {
	var out []string
	for _, rs := range w.sets {
		out = append(out, fmt.Sprint(rs.Name, replicas(rs), rs.Status.Replicas, rs.Status.AvailableReplicas))
	}
	return out
}

func (w *world) condition(kind appsv1.DeploymentConditionType) string {
	if c := find(w.d.Status.Conditions, kind); c != nil {
		return string(c.Status) + " " + c.Reason
	}
	return ""
}

func TestFirstRollout(t *testing.T) {
	w := newWorld(t, newDeployment(3, "25%", "25%"))
	w.pass()
	rs := w.sets[0]
	if rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == "" || rs.Name != "web-"+rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey] || replicas(rs) != 3 {
		t.Errorf("replica set: %+v", rs)
	}
	want := map[string]string{"note": "x", RevisionAnnotation: "1", DesiredReplicasAnnotation: "3", MaxReplicasAnnotation: "4"}
	if !maps.Equal(rs.Annotations, want) {
		t.Errorf("annotations: %v, want %v", rs.Annotations, want)
	}
	if got := w.condition(appsv1.DeploymentProgressing); got != "True NewReplicaSetCreated" {
		t.Errorf("progressing: %s", got)
	}
	if got := w.condition(appsv1.DeploymentAvailable); got != "False MinimumReplicasUnavailable" {
		t.Errorf("available: %s", got)
	}
	w.settle(func() {})
	if got := w.condition(appsv1.DeploymentProgressing) + ", " + w.condition(appsv1.DeploymentAvailable); got != "True NewReplicaSetAvailable, True MinimumReplicasAvailable" {
		t.Errorf("at the end: %s", got)
	}
	if s := w.d.Status; s.Replicas != 3 || s.UpdatedReplicas != 3 || s.AvailableReplicas != 3 || s.UnavailableReplicas != 0 || s.ObservedGeneration != w.d.Generation {
		t.Errorf("status: %+v", s)
	}
}

// TestRollingUpdateKeepsItsLimits rolls out again and again, with pods that come up in any order and templates that
// change halfway.
func TestRollingUpdateKeepsItsLimits(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 7))
		n := int32(1 + r.IntN(12))
		surge, unavailable := []string{"0", "1", "25%", "100%", "3"}[r.IntN(5)], []string{"0", "1", "25%", "50%"}[r.IntN(4)]
		w := newWorld(t, newDeployment(n, surge, unavailable))
		s, u, err := limits(w.d)
		if err != nil {
			t.Fatal(err)
		}
		reached := false
		check := func() {
			have, avail := sum(w.sets, replicas), sum(w.sets, available)
			if have > n+s {
				t.Fatalf("seed %d: %d pods asked for, at most %d+%d allowed; %v", seed, have, n, s, w.statuses())
			}
			reached = reached || avail >= n-u
			// What was asked to go may go at once, so the promise is about the pods that are asked for and available.
			kept := sum(w.sets, func(rs *appsv1.ReplicaSet) int32 { return min(replicas(rs), available(rs)) })
			if reached && kept < n-u {
				t.Fatalf("seed %d: %d available, at least %d-%d promised; %v", seed, kept, n, u, w.statuses())
			}
		}
		for image := range 4 {
			setImage(w.d, fmt.Sprint("v", image))
			for range 5 + r.IntN(60) {
				w.pass()
				check()
				w.step(r.IntN)
			}
		}
		w.settle(check)
		if got := w.condition(appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
			t.Fatalf("seed %d: %s; %v", seed, got, w.statuses())
		}
		if running := active(w.sets); len(running) != 1 || replicas(running[0]) != n || running[0].Spec.Template.Spec.Containers[0].Image != "v3" {
			t.Fatalf("seed %d: %v", seed, w.statuses())
		}
		if len(w.sets) > 3 {
			t.Fatalf("seed %d: %d replica sets, history limit 2", seed, len(w.sets))
		}
	}
}

func TestRecreateWaitsForTheOld(t *testing.T) {
	d := newDeployment(2, "0", "1")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	w := newWorld(t, d)
	w.settle(func() {})
	setImage(d, "v2")
	w.events = nil
	w.pass()
	w.pass()
	if got := strings.Join(w.events, " "); got != "2->0" {
		t.Fatalf("first: %s", got)
	}
	w.sets[0].Status = appsv1.ReplicaSetStatus{ObservedGeneration: w.sets[0].Generation, TerminatingReplicas: new(int32(1))}
	w.running[w.sets[0].UID] = 1 // still terminating
	w.pass()
	if len(w.sets) != 1 {
		t.Fatal("the new one started beside the old")
	}
	w.running[w.sets[0].UID] = 0
	w.pass()
	if got := strings.Join(w.events, " "); got != "2->0 +2" {
		t.Fatalf("then: %s", got)
	}
}

func TestPausedDoesNotRollOutButScales(t *testing.T) {
	w := newWorld(t, newDeployment(3, "1", "0"))
	w.settle(func() {})
	w.d.Spec.Paused = true
	setImage(w.d, "v2")
	w.d.Spec.Replicas = new(int32(5))
	w.events = nil
	w.settle(func() {})
	if got := strings.Join(w.events, " "); got != "3->5" || len(w.sets) != 1 {
		t.Fatalf("events %s, %d sets", got, len(w.sets))
	}
	if got := w.condition(appsv1.DeploymentProgressing); got != "Unknown DeploymentPaused" {
		t.Errorf("progressing: %s", got)
	}
	w.d.Spec.Paused = false
	w.d.Generation++
	w.pass()
	if got := w.condition(appsv1.DeploymentProgressing); len(w.sets) != 2 || got != "True NewReplicaSetCreated" {
		t.Errorf("after resume: %d sets, %s", len(w.sets), got)
	}
}

func TestUndoReusesTheOldReplicaSet(t *testing.T) {
	w := newWorld(t, newDeployment(2, "1", "0"))
	w.settle(func() {})
	setImage(w.d, "v2")
	w.settle(func() {})
	setImage(w.d, "v1")
	w.settle(func() {})
	if len(w.sets) != 2 {
		t.Fatalf("%d sets", len(w.sets))
	}
	if a := w.sets[0].Annotations; a[RevisionAnnotation] != "3" || a[RevisionHistoryAnnotation] != "1" || w.d.Annotations[RevisionAnnotation] != "3" {
		t.Errorf("revisions: %v, deployment %s", a, w.d.Annotations[RevisionAnnotation])
	}
}

func TestScaleInProportion(t *testing.T) {
	rs := func(name string, n, age int32) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(start.Add(-time.Duration(age) * time.Hour)),
				Annotations: map[string]string{DesiredReplicasAnnotation: "10", MaxReplicasAnnotation: "13"}},
			Spec: appsv1.ReplicaSetSpec{Replicas: &n},
		}
	}
	tests := []struct {
		name        string
		want        int32
		sizes, then []int32 // oldest first; the last one is current
	}{
		{"grow", 20, []int32{8, 5}, []int32{14, 9}},
		{"grow, rounding goes to the largest", 15, []int32{5, 8}, []int32{7, 11}},
		{"shrink", 5, []int32{8, 5}, []int32{5, 3}},
		{"three", 20, []int32{5, 5, 3}, []int32{9, 9, 5}},
		{"to nothing", 0, []int32{8, 5}, []int32{0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDeployment(tt.want, "3", "2")
			var sets []*appsv1.ReplicaSet
			for i, n := range tt.sizes {
				sets = append(sets, rs(fmt.Sprint("rs", i), n, int32(10-i)))
			}
			sets[len(sets)-1].Spec.Template = d.Spec.Template
			p, err := makePlan(facts{deployment: d, sets: sets, now: start, oldPods: func(*appsv1.ReplicaSet) bool { return false }})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int32{}
			for _, c := range p.changes {
				got[c.to.Name] = replicas(c.to)
			}
			for i, n := range tt.then {
				if got[fmt.Sprint("rs", i)] != n {
					t.Errorf("got %v, want %v", got, tt.then)
				}
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	w := newWorld(t, newDeployment(1, "1", "0"))
	w.pass()
	p, _ := makePlan(w.facts())
	if p.again != 601*time.Second {
		t.Errorf("look again after %v", p.again)
	}
	w.now = w.now.Add(602 * time.Second)
	w.pass()
	if got := w.condition(appsv1.DeploymentProgressing); got != "False ProgressDeadlineExceeded" {
		t.Errorf("progressing: %s", got)
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		n                  int32
		surge, unavailable string
		s, u               int32
	}{
		{3, "25%", "25%", 1, 0}, {4, "25%", "25%", 1, 1}, {10, "25%", "25%", 3, 2}, {1, "0", "0", 0, 1}, {2, "0", "5", 0, 2}, {0, "25%", "25%", 0, 0},
	} {
		s, u, err := limits(newDeployment(tt.n, tt.surge, tt.unavailable))
		if s != tt.s || u != tt.u || err != nil {
			t.Errorf("%d replicas, %s, %s: surge %d, unavailable %d, %v", tt.n, tt.surge, tt.unavailable, s, u, err)
		}
	}
	if _, _, err := limits(newDeployment(3, "x%", "0")); err == nil {
		t.Error("x% is accepted")
	}
}

func TestHashChangesWithCollisions(t *testing.T) {
	d := newDeployment(1, "1", "0")
	seen := map[string]bool{templateHash(&d.Spec.Template, nil): true}
	for n := range int32(3) {
		seen[templateHash(&d.Spec.Template, &n)] = true
	}
	if len(seen) != 4 {
		t.Errorf("collisions do not make other names: %v", seen)
	}
}

func TestRevisionHistoryIsBounded(t *testing.T) {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
	for n := int64(1); n < 2000; n++ {
		setRevision(rs, n)
	}
	h := rs.Annotations[RevisionHistoryAnnotation]
	if len(h) > historyLimit || !strings.HasSuffix(h, ",1998") || rs.Annotations[RevisionAnnotation] != "1999" {
		t.Errorf("%d characters, ends with %s", len(h), h[len(h)-10:])
	}
}
