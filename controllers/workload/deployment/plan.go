package deployment

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// kind is what ReplicaSets name as their controller.
var kind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// facts are what a plan is made from.
type facts struct {
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet // owned by the Deployment
	// oldPods reports whether a pod of a ReplicaSet other than the current one may still run. Only Recreate asks.
	oldPods func(current *appsv1.ReplicaSet) bool
	now     time.Time
}

// plan is one step towards the spec. Every write is guarded by the resource version that the plan was made from, so a
// plan from a stale cache is refused, not harmful. Applied fully and made again from the result, without any change of
// the pods, a plan is empty.
type plan struct {
	create   *appsv1.ReplicaSet
	changes  []change
	remove   []*appsv1.ReplicaSet
	revision string // what the Deployment's revision annotation has to say; "" leaves it
	status   appsv1.DeploymentStatus
	again    time.Duration // look again after this time; 0 = only when something changes
}

// change is an update of a ReplicaSet's size, annotations or minReadySeconds.
type change struct{ from, to *appsv1.ReplicaSet }

// planner holds the working copies: old and cur are what the ReplicaSets will be after the plan.
type planner struct {
	facts
	plan
	surge, unavailable int32
	cur                *appsv1.ReplicaSet // nil when no ReplicaSet has the Deployment's template
	old                []*appsv1.ReplicaSet
	original           map[*appsv1.ReplicaSet]*appsv1.ReplicaSet
}

// makePlan decides the next step: a Deployment that is being deleted only reports; a paused one and one whose size
// changed are scaled in proportion; any other rolls out by its strategy.
func makePlan(f facts) (plan, error) {
	p := &planner{facts: f, original: map[*appsv1.ReplicaSet]*appsv1.ReplicaSet{}}
	var err error
	if p.surge, p.unavailable, err = limits(f.deployment); err != nil {
		return plan{}, err
	}
	p.split()
	switch {
	case f.deployment.DeletionTimestamp != nil:
		p.status = p.baseStatus()
		return p.plan, nil
	case f.deployment.Spec.Paused:
		p.syncCurrent()
		p.scale()
		p.cleanup()
		p.status = p.baseStatus()
	case p.resized():
		p.syncCurrent()
		p.scale()
		p.status = p.baseStatus()
	case f.deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		p.recreate()
		p.status = p.rolloutStatus()
	default:
		p.roll()
		p.status = p.rolloutStatus()
	}
	if complete(f.deployment, &p.status) {
		p.cleanup()
	}
	p.collect()
	return p.plan, nil
}

// split makes working copies and finds the current ReplicaSet among them.
func (p *planner) split() {
	cur := current(p.deployment, p.sets)
	for _, rs := range slices.SortedFunc(slices.Values(p.sets), byAge) {
		cp := *rs
		cp.Annotations = maps.Clone(rs.Annotations)
		if cp.Annotations == nil {
			cp.Annotations = map[string]string{}
		}
		p.original[&cp] = rs
		if rs == cur {
			p.cur = &cp
		} else {
			p.old = append(p.old, &cp)
		}
	}
}

// all returns the working copies, the current one last.
func (p *planner) all() []*appsv1.ReplicaSet {
	if p.cur == nil {
		return p.old
	}
	return append(slices.Clone(p.old), p.cur)
}

// resized reports whether the Deployment asks for another size than when its ReplicaSets were last scaled.
func (p *planner) resized() bool {
	for _, rs := range active(p.all()) {
		if n, ok := size(rs, DesiredReplicasAnnotation); ok && n != desired(p.deployment) {
			return true
		}
	}
	return false
}

// syncCurrent brings the annotations, the revision and minReadySeconds of the current ReplicaSet up to date.
func (p *planner) syncCurrent() {
	if p.cur == nil {
		return
	}
	inherit(p.deployment, p.cur)
	setRevision(p.cur, maxRevision(p.old)+1)
	p.cur.Spec.MinReadySeconds = p.deployment.Spec.MinReadySeconds
	p.revision = p.cur.Annotations[RevisionAnnotation]
}

// ensureCurrent plans the current ReplicaSet when there is none, without pods at first.
func (p *planner) ensureCurrent() {
	if p.cur != nil {
		p.syncCurrent()
		return
	}
	p.cur = newReplicaSet(p.deployment)
	inherit(p.deployment, p.cur)
	setRevision(p.cur, maxRevision(p.old)+1)
	p.revision = p.cur.Annotations[RevisionAnnotation]
	p.resize(p.cur, 0)
	p.create = p.cur
}

// resize gives a working copy another size, and notes on it for what size of the Deployment.
func (p *planner) resize(rs *appsv1.ReplicaSet, n int32) {
	rs.Spec.Replicas = new(n)
	setSizes(rs, desired(p.deployment), desired(p.deployment)+p.surge)
}

// allowed is the size that the current ReplicaSet may have now: with RollingUpdate all pods together stay within
// desired+surge.
func (p *planner) allowed() int32 {
	want, have := desired(p.deployment), replicas(p.cur)
	if !rolling(p.deployment) || have >= want {
		return want
	}
	room := want + p.surge - sum(p.all(), replicas)
	return have + max(0, min(room, want-have))
}

// roll is one step of a rolling update: the old ReplicaSets shrink as far as availability allows, then the current one
// grows as far as surge allows.
func (p *planner) roll() {
	p.ensureCurrent()
	p.shrinkOld()
	if n := p.allowed(); n != replicas(p.cur) {
		p.resize(p.cur, n)
	}
}

// shrinkOld scales the old ReplicaSets down, first by pods that are not available anyway, then by available ones as
// long as enough remain.
func (p *planner) shrinkOld() {
	minAvailable := desired(p.deployment) - p.unavailable
	missing := replicas(p.cur) - available(p.cur)
	room := sum(p.all(), replicas) - minAvailable - missing
	if room <= 0 || sum(p.old, replicas) == 0 {
		return
	}
	for _, rs := range active(p.old) {
		if dead := min(room, replicas(rs)-available(rs)); dead > 0 {
			p.resize(rs, replicas(rs)-dead)
			room -= dead
		}
	}
	spare := min(room, sum(p.all(), available)-minAvailable)
	for _, rs := range active(p.old) {
		if n := min(spare, replicas(rs)); n > 0 {
			p.resize(rs, replicas(rs)-n)
			spare -= n
		}
	}
}

// recreate stops everything old, waits until its pods are gone, and only then starts the new.
func (p *planner) recreate() {
	running := active(p.old)
	for _, rs := range running {
		p.resize(rs, 0)
	}
	if len(running) > 0 || sum(p.old, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas }) > 0 || p.oldPods(p.original[p.cur]) {
		p.syncCurrent()
		return
	}
	p.ensureCurrent()
	if n := desired(p.deployment); n != replicas(p.cur) {
		p.resize(p.cur, n)
	}
}

// cleanup removes the oldest ReplicaSets without pods beyond the history limit.
func (p *planner) cleanup() {
	limit := p.deployment.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	var alive []*appsv1.ReplicaSet
	for _, rs := range p.old {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	excess := len(alive) - int(*limit)
	if excess <= 0 {
		return
	}
	slices.SortFunc(alive, byRevision)
	for _, rs := range alive[:excess] {
		from := p.original[rs]
		if from.Status.Replicas == 0 && replicas(from) == 0 && replicas(rs) == 0 && from.Generation <= from.Status.ObservedGeneration {
			p.remove = append(p.remove, from)
		}
	}
}

// collect turns the working copies that differ into changes: shrinking before growing, so that a plan that stops
// halfway stays within its limits.
func (p *planner) collect() {
	for _, rs := range p.all() {
		from := p.original[rs]
		if from == nil || slices.Contains(p.remove, from) {
			continue
		}
		same := replicas(from) == replicas(rs) && from.Spec.MinReadySeconds == rs.Spec.MinReadySeconds &&
			equality.Semantic.DeepEqual(from.Annotations, rs.Annotations)
		if !same {
			p.changes = append(p.changes, change{from: from, to: rs})
		}
	}
	slices.SortStableFunc(p.changes, func(a, b change) int { return cmp.Compare(a.growth(), b.growth()) })
}

func (c change) growth() int32 { return replicas(c.to) - replicas(c.from) }

// oldPodsRunning tells, from the pods of every ReplicaSet by uid, whether a pod of another ReplicaSet than the current
// one has not ended.
func oldPodsRunning(podsOf func(rs *appsv1.ReplicaSet) []*corev1.Pod, sets []*appsv1.ReplicaSet) func(*appsv1.ReplicaSet) bool {
	return func(cur *appsv1.ReplicaSet) bool {
		for _, rs := range sets {
			if cur != nil && rs.UID == cur.UID {
				continue
			}
			for _, pod := range podsOf(rs) {
				if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
					return true
				}
			}
		}
		return false
	}
}
