package deployment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/workload/model"
)

// server is what the API server has; the controller sees the Deployment and the ReplicaSets of a cache that lags behind, each on its own.
type server struct {
	*world
	*rand.Rand
	version int
	cachedD *appsv1.Deployment
	cached  []*appsv1.ReplicaSet
	writes  *writes
	fuel    int // writes until the controller is killed; negative: it is not
	held    int // steps for which no news of ReplicaSets come
	log     []string
}

func (s *server) stamp(o metav1.Object) {
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
}

func (s *server) catchUp() { s.cachedD, s.cached = s.d, slices.Clone(s.sets) }

func (s *server) mayWrite() bool {
	if s.fuel == 0 {
		return false
	}
	s.fuel--
	return true
}

// create reports false when the pass has to end: the controller is dead, the name is taken, or the answer is lost.
func (s *server) create(rs *appsv1.ReplicaSet) bool {
	if !s.mayWrite() {
		return false
	}
	s.writes.creating(s.d.UID, rs.Name)
	if slices.ContainsFunc(s.sets, func(have *appsv1.ReplicaSet) bool { return have.Name == rs.Name }) {
		return false
	}
	s.serial++
	rs = rs.DeepCopy()
	rs.UID, rs.Generation, rs.CreationTimestamp = types.UID(fmt.Sprint("rs", s.serial)), 1, metav1.NewTime(s.now)
	s.stamp(rs)
	s.sets = append(s.sets, rs)
	s.log = append(s.log, fmt.Sprintf("+%s %d", rs.Name, replicas(rs)))
	if s.IntN(10) == 0 {
		return false
	}
	s.writes.sets.Note(rs)
	return true
}

func (s *server) update(c change) bool {
	if !s.mayWrite() {
		return false
	}
	at := slices.IndexFunc(s.sets, func(have *appsv1.ReplicaSet) bool {
		return have.UID == c.from.UID && have.ResourceVersion == c.from.ResourceVersion
	})
	if at < 0 {
		return false // a conflict
	}
	rs := c.to.DeepCopy()
	if replicas(rs) != replicas(c.from) {
		rs.Generation++
		s.log = append(s.log, fmt.Sprintf("%s %d->%d", rs.Name, replicas(c.from), replicas(rs)))
	}
	s.stamp(rs)
	s.sets[at] = rs
	s.writes.sets.Note(rs) // also when the answer is lost: it is asked for
	return s.IntN(10) > 0
}

// work is one pass of the controller, in the order of Controller.apply.
func (s *server) work() {
	late, err := s.writes.late(s.d.UID, s.cached, func(name string) (bool, error) {
		return slices.ContainsFunc(s.sets, func(rs *appsv1.ReplicaSet) bool { return rs.Name == name }), nil
	})
	if late || err != nil {
		return
	}
	p, err := makePlan(facts{deployment: s.cachedD, sets: s.cached, now: s.now, oldPods: func(*appsv1.ReplicaSet) bool { return false }})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range p.changes {
		if c.growth() <= 0 && !s.update(c) {
			return
		}
	}
	if p.create != nil && !s.create(p.create) {
		return
	}
	for _, c := range p.changes {
		if c.growth() > 0 && !s.update(c) {
			return
		}
	}
	for _, rs := range p.remove {
		if !s.mayWrite() {
			return
		}
		s.sets = slices.DeleteFunc(s.sets, func(have *appsv1.ReplicaSet) bool {
			return have.UID == rs.UID && have.ResourceVersion == rs.ResourceVersion
		})
	}
	if s.mayWrite() && s.cachedD.ResourceVersion == s.d.ResourceVersion {
		d := s.d.DeepCopy()
		d.Status = p.status
		if p.revision != "" {
			d.Annotations[RevisionAnnotation] = p.revision
		}
		s.stamp(d)
		s.d = d
	}
}

// pass lets the controller work, and sometimes kills it between two writes: the next one remembers nothing and has listed afresh.
func (s *server) pass() {
	s.fuel = -1
	if s.IntN(20) == 0 {
		s.fuel = s.IntN(4)
	}
	dies := s.fuel >= 0
	s.work()
	if dies {
		s.log = append(s.log, "killed")
		s.writes, s.held = &writes{}, 0
		s.catchUp()
	}
}

// move lets a ReplicaSet's pods come, become available, end and go.
func (s *server) move(fail bool) {
	before := slices.Clone(s.sets)
	s.step(s.IntN)
	for i, rs := range s.sets {
		if rs == before[i] {
			continue
		}
		if fail && s.IntN(8) == 0 && rs.Status.AvailableReplicas > 0 {
			rs.Status.AvailableReplicas--
			rs.Status.ReadyReplicas--
		}
		s.stamp(rs)
	}
}

// kept are the pods of a ReplicaSet that are available and not asked to go.
func kept(rs *appsv1.ReplicaSet) int32 { return min(replicas(rs), available(rs)) }

// TestModel drives the plan through pods that fail, caches that lag, each for itself and one of them now and then for as long as a whole
// rollout takes, conflicts, lost answers, kills between writes, and templates and sizes that change halfway. Never are more pods asked for
// than size and surge allow, no step takes an available pod below what is promised, and in the end only the last template runs.
func TestModel(t *testing.T) {
	for seed := range model.Seeds() {
		r := rand.New(rand.NewPCG(seed, 11))
		n := int32(1 + r.IntN(12))
		surge, unavailable := []string{"0", "1", "25%", "100%", "3"}[r.IntN(5)], []string{"0", "1", "25%", "50%"}[r.IntN(4)]
		s := &server{world: newWorld(t, newDeployment(n, surge, unavailable)), Rand: r, writes: &writes{}, fuel: -1}
		s.stamp(s.d)
		s.catchUp()
		most, least, err := limits(s.d)
		if err != nil {
			t.Fatal(err)
		}
		check := func() {
			if have := sum(s.sets, replicas); have > n+most {
				t.Fatalf("seed %d: %d pods are asked for, at most %d+%d may be\n%v\n%v", seed, have, n, most, s.statuses(), s.log[max(0, len(s.log)-20):])
			}
		}
		for step := range 400 {
			if step%90 == 45 {
				d := s.d.DeepCopy()
				setImage(d, fmt.Sprint("v", step))
				s.stamp(d)
				s.d = d
				s.log = append(s.log, "template "+fmt.Sprint("v", step))
			}
			s.move(true)
			if r.IntN(3) == 0 {
				s.cachedD = s.d
			}
			switch {
			case s.held > 0:
				s.held--
			case r.IntN(60) == 0:
				s.held = 100
			case r.IntN(3) == 0:
				s.cached = slices.Clone(s.sets)
			}
			before, fresh := sum(s.sets, kept), slices.Equal(s.cached, s.sets)
			s.pass()
			check()
			if after := sum(s.sets, kept); fresh && after < min(before, n-least) {
				t.Fatalf("seed %d: from %d available pods to %d, at least %d-%d are promised\n%v\n%v", seed, before, after, n, least, s.statuses(), s.log[max(0, len(s.log)-20):])
			}
		}
		for range 2000 {
			if len(active(s.sets)) == 1 && sum(s.sets, kept) == n && s.d.Status.ObservedGeneration == s.d.Generation && s.d.Status.UpdatedReplicas == n {
				break
			}
			s.move(false)
			s.catchUp()
			s.fuel = -1
			s.work()
			check()
		}
		last := s.d.Spec.Template.Spec.Containers[0].Image
		if running := active(s.sets); len(running) != 1 || replicas(running[0]) != n || running[0].Spec.Template.Spec.Containers[0].Image != last || available(running[0]) != n {
			t.Fatalf("seed %d: %v\n%v", seed, s.statuses(), s.log[max(0, len(s.log)-20):])
		}
	}
}
