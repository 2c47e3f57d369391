package statefulset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/controllers/podstate"
)

// version is a revision of the pod template.
type version struct {
	name     string
	template *corev1.PodTemplateSpec
}

// facts are what a plan is made from.
type facts struct {
	set             *appsv1.StatefulSet
	current, update version
	pods            []*corev1.Pod   // the set's, whatever their state
	unseen          map[string]bool // names of pods that were created and that the cache does not show yet
	gone            map[string]bool // names of pods that were deleted and that the cache still shows as living
	now             time.Time
}

// plan is one step towards the spec. With OrderedReady it creates or removes one pod at most.
type plan struct {
	create []int         // ordinals
	remove []*corev1.Pod // in this order
	fix    []replica     // pods whose labels tell another place
	claims []replica     // whose claims have to exist and to belong to whom the retention policy says
	status appsv1.StatefulSetStatus
	again  time.Duration // a pod becomes available then
}

// replica is one ordinal's place and who is in it.
type replica struct {
	ordinal   int
	pod       *corev1.Pod // nil: nobody that the cache shows
	unseen    bool        // created, not shown yet
	going     bool        // being deleted
	condemned bool        // beyond the wanted number
}

func (r replica) exists() bool { return r.pod != nil || r.unseen }

type planner struct {
	facts
	plan
	ordered   bool
	replicas  []replica // by ordinal
	condemned []replica // highest ordinal first
}

// makePlan decides the next step: fill places in order, then take away what is too many, highest first, then update
// from the highest down. With OrderedReady each step waits until all before it are available.
func makePlan(f facts) plan {
	p := &planner{facts: f, ordered: f.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement}
	p.seat()
	p.status = p.makeStatus()
	if f.set.DeletionTimestamp != nil {
		return p.plan
	}
	p.claims = append(slices.Clone(p.replicas), p.condemned...)
	if p.fill() && p.shrink() {
		p.roll()
	}
	return p.plan
}

// seat puts every pod into its place.
func (p *planner) seat() {
	start, n := startOrdinal(p.set), wanted(p.set)
	p.replicas = make([]replica, n)
	for i := range p.replicas {
		p.replicas[i].ordinal = start + i
		p.replicas[i].unseen = p.unseen[podName(p.set, start+i)]
	}
	for _, pod := range p.pods {
		ordinal, ok := ordinalOf(p.set, pod.Name)
		if !ok {
			continue
		}
		r := replica{ordinal: ordinal, pod: pod, going: pod.DeletionTimestamp != nil || p.gone[pod.Name]}
		if i := ordinal - start; i >= 0 && i < n {
			p.replicas[i] = r
		} else {
			r.condemned = true
			p.condemned = append(p.condemned, r)
		}
	}
	slices.SortFunc(p.condemned, func(a, b replica) int { return cmp.Compare(b.ordinal, a.ordinal) })
}

// fill creates the pods that lack and replaces those that ended. It returns whether the next steps may follow.
func (p *planner) fill() bool {
	for _, r := range p.replicas {
		switch {
		case !r.exists():
			p.create = append(p.create, r.ordinal)
		case r.pod != nil && podstate.Terminal(r.pod):
			if !r.going {
				p.remove = append(p.remove, r.pod)
			}
		case p.available(r):
			p.place(r)
			continue
		case p.stuck(r):
			p.remove = append(p.remove, r.pod)
		default:
			p.place(r)
		}
		if p.ordered {
			return false
		}
	}
	return true
}

// place has a pod's labels put right.
func (p *planner) place(r replica) {
	if r.pod != nil && !r.going && misplaced(p.set, r.pod, r.ordinal) {
		p.fix = append(p.fix, r)
	}
}

// stuck reports whether a pod of an old revision cannot start at all and an update could cure it.
//
// Differs from upstream: there a set whose pods cannot start stays so, however its template is mended, until somebody
// deletes the pod.
func (p *planner) stuck(r replica) bool {
	return p.ordered && r.pod != nil && !r.going && p.outdated(r) && broken(r.pod)
}

// broken reports whether a container of the pod waits for something that does not come by itself.
func broken(pod *corev1.Pod) bool {
	if podstate.Ready(pod) {
		return false
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil {
			switch w.Reason {
			case "", "ContainerCreating", "PodInitializing":
			default:
				return true
			}
		}
	}
	return false
}

// shrink removes what is too many. With OrderedReady one at a time, and an unhealthy one only when it is the first that
// is unhealthy: a pod that waits for another must not be taken away under it. One that ended waits for nobody.
func (p *planner) shrink() bool {
	first := p.firstUnhealthy()
	for _, r := range p.condemned {
		if r.going {
			if p.ordered {
				return false
			}
			continue
		}
		if p.ordered && !p.available(r) && !podstate.Terminal(r.pod) && r.pod != first {
			return false
		}
		p.remove = append(p.remove, r.pod)
		if p.ordered {
			return false
		}
	}
	return true
}

// firstUnhealthy is the unhealthy pod with the lowest ordinal, nil when all are well.
func (p *planner) firstUnhealthy() *corev1.Pod {
	for _, r := range p.replicas {
		if r.pod != nil && !p.available(r) && !podstate.Terminal(r.pod) {
			return r.pod
		}
	}
	for _, r := range slices.Backward(p.condemned) {
		if !p.available(r) && !podstate.Terminal(r.pod) {
			return r.pod
		}
	}
	return nil
}

// roll replaces pods of old revisions from the highest ordinal down to the partition, as long as no more than
// maxUnavailable are unavailable. A pod that is unavailable anyway costs nothing.
func (p *planner) roll() {
	if p.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	limit := maxUnavailable(p.set)
	down := 0
	for _, r := range p.replicas {
		if !p.available(r) {
			down++
		}
	}
	blocked := 0
	for _, r := range slices.Backward(p.replicas) {
		switch {
		case !p.outdated(r) || r.going:
			if !p.available(r) {
				blocked++
			}
		case !p.available(r):
			p.remove = append(p.remove, r.pod)
			blocked++
		case down < limit:
			p.remove = append(p.remove, r.pod)
			down++
			blocked++
		}
		if blocked >= limit {
			return
		}
	}
}

// outdated reports whether the pod is not of the update's revision and the strategy wants it to be.
func (p *planner) outdated(r replica) bool {
	return r.pod != nil && !podstate.Terminal(r.pod) && p.set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType &&
		r.ordinal-startOrdinal(p.set) >= partition(p.set) && revisionOf(r.pod) != p.update.name
}

// available reports whether the replica runs and has been ready for long enough.
func (p *planner) available(r replica) bool {
	if r.pod == nil || r.going || r.pod.Status.Phase != corev1.PodRunning {
		return false
	}
	ok, wait := podstate.Available(r.pod, p.set.Spec.MinReadySeconds, p.now)
	if wait > 0 && (p.again == 0 || wait < p.again) {
		p.again = wait
	}
	return ok
}

// versionFor is the revision that a new pod of the ordinal is made from: below the partition the old one.
func versionFor(f facts, ordinal int) version {
	if f.set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && ordinal-startOrdinal(f.set) < partition(f.set) {
		return f.current
	}
	return f.update
}

func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.ControllerRevisionHashLabelKey] }

func wanted(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

func startOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func partition(set *appsv1.StatefulSet) int {
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		return int(*r.Partition)
	}
	return 0
}

// maxUnavailable is at least 1; a percentage is of the wanted number, rounded up.
func maxUnavailable(set *appsv1.StatefulSet) int {
	r := set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, wanted(set), true)
	if err != nil {
		return 1 // refused by the API server long ago
	}
	return max(n, 1)
}
