package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/controllers/podstate"
)

// burst is the most pods that one pass creates or deletes; the rest follows in the next pass.
const burst = 250

// facts are what a plan is made from.
type facts struct {
	ds     *appsv1.DaemonSet
	hash   string // of the revision that pods are to have
	nodes  []*corev1.Node
	pods   []*corev1.Pod   // the DaemonSet's, whatever their state
	gone   map[string]bool // names of pods that were deleted and that the cache still shows as living
	unseen map[string]int  // by node: pods that were created and that the cache does not show yet
	// pause is how long a pod that ended has to be left alone, so that one that always fails does not keep the cluster
	// busy; 0: none.
	pause func(pod *corev1.Pod) time.Duration
	now   time.Time
}

// plan is what has to be done next.
type plan struct {
	create []string // nodes
	remove []*corev1.Pod
	ended  []*corev1.Pod // those of remove that had ended by themselves
	status appsv1.DaemonSetStatus
	again  time.Duration
}

// place is one node and the DaemonSet's pods on it.
type place struct {
	node      string
	run, stay bool
	pods      []*corev1.Pod // oldest first, those being deleted included
	unseen    int
}

type planner struct {
	facts
	plan
	places []place
	strays []*corev1.Pod // pinned to nodes that are not there
	surge  int
	limit  int // maxUnavailable
}

// makePlan puts one pod on every node where one belongs, takes away what does not, and then replaces pods of old
// revisions as far as the strategy allows.
func makePlan(f facts) (plan, error) {
	p := &planner{facts: f}
	if err := p.seat(); err != nil {
		return plan{}, err
	}
	if err := p.limits(); err != nil {
		return plan{}, err
	}
	p.status = p.makeStatus()
	if f.ds.DeletionTimestamp != nil {
		return p.plan, nil
	}
	for i := range p.places {
		p.keep(&p.places[i])
	}
	p.remove = append(p.remove, p.strays...)
	if f.ds.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType {
		p.roll()
	}
	p.create, p.remove = p.create[:min(len(p.create), burst)], p.remove[:min(len(p.remove), burst)]
	return p.plan, nil
}

// seat sorts the pods by node.
func (p *planner) seat() error {
	choose, err := newChooser(p.ds)
	if err != nil {
		return err
	}
	on := map[string][]*corev1.Pod{}
	for _, pod := range p.pods {
		node := nodeOf(pod)
		on[node] = append(on[node], pod)
	}
	nodes := slices.SortedFunc(slices.Values(p.nodes), func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range nodes {
		run, stay := choose.belongs(n)
		pods := on[n.Name]
		delete(on, n.Name)
		if !run && !stay && len(pods) == 0 {
			continue
		}
		slices.SortFunc(pods, oldestFirst)
		p.places = append(p.places, place{node: n.Name, run: run, stay: stay, pods: pods, unseen: p.unseen[n.Name]})
	}
	for _, pods := range on {
		for _, pod := range pods {
			if pod.Spec.NodeName == "" && !p.going(pod) { // those that are bound are the pod collector's
				p.strays = append(p.strays, pod)
			}
		}
	}
	slices.SortFunc(p.strays, oldestFirst)
	return nil
}

// oldestFirst sorts bound pods before others, then by age.
func oldestFirst(a, b *corev1.Pod) int {
	if (a.Spec.NodeName == "") != (b.Spec.NodeName == "") {
		if a.Spec.NodeName != "" {
			return -1
		}
		return 1
	}
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// limits reads the strategy; percentages are of the nodes that should run a pod, rounded up.
func (p *planner) limits() error {
	r := p.ds.Spec.UpdateStrategy.RollingUpdate
	wanted := 0
	for _, at := range p.places {
		if at.run {
			wanted++
		}
	}
	p.limit = 1
	if r == nil {
		return nil
	}
	var err error
	if r.MaxSurge != nil {
		if p.surge, err = intstr.GetScaledValueFromIntOrPercent(r.MaxSurge, wanted, true); err != nil {
			return err
		}
	}
	if r.MaxUnavailable != nil {
		if p.limit, err = intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, wanted, true); err != nil {
			return err
		}
	}
	if p.limit <= 0 && p.surge <= 0 && wanted > 0 {
		p.limit = 1
	}
	return nil
}

func (p *planner) going(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || p.gone[pod.Name]
}

// keep has one pod on a node where one belongs and none where none does.
func (p *planner) keep(at *place) {
	if !at.stay {
		for _, pod := range at.pods {
			if !p.going(pod) {
				p.remove = append(p.remove, pod)
			}
		}
		return
	}
	if at.run && len(at.pods)+at.unseen == 0 {
		p.create = append(p.create, at.node)
		return
	}
	var living []*corev1.Pod
	for _, pod := range at.pods {
		switch {
		case p.going(pod):
		case podstate.Terminal(pod):
			if wait := p.pause(pod); wait > 0 {
				p.wake(wait)
				continue
			}
			p.remove, p.ended = append(p.remove, pod), append(p.ended, pod)
		default:
			living = append(living, pod)
		}
	}
	if len(living) < 2 {
		return
	}
	fresh, old := p.split(living)
	if p.surge == 0 {
		p.remove = append(p.remove, living[1:]...)
		return
	}
	for _, same := range [][]*corev1.Pod{fresh, old} { // one of each may stand beside the other
		if len(same) > 1 {
			p.remove = append(p.remove, same[1:]...)
		}
	}
}

// split sorts pods into those of today's revision and others.
func (p *planner) split(pods []*corev1.Pod) (fresh, old []*corev1.Pod) {
	for _, pod := range pods {
		if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == p.hash {
			fresh = append(fresh, pod)
		} else {
			old = append(old, pod)
		}
	}
	return fresh, old
}

// standing is what matters for a rollout about a node: its living pod of today's revision and its living old one.
func (p *planner) standing(at place) (fresh, old *corev1.Pod) {
	for _, pod := range at.pods {
		if p.going(pod) || podstate.Terminal(pod) {
			continue
		}
		if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == p.hash {
			fresh = pod
		} else if old == nil {
			old = pod
		}
	}
	return fresh, old
}

// roll replaces old pods: with a surge the new one comes first, else the old one goes first. An old pod that is not
// available costs nothing to replace.
func (p *planner) roll() {
	var replace, start []place // old pods that may go, nodes where a new one may come beside the old
	unavailable, surging := 0, 0
	for _, at := range p.places {
		if !at.run {
			continue
		}
		fresh, old := p.standing(at)
		switch {
		case old == nil:
			if fresh == nil || !p.available(fresh) {
				unavailable++
			}
		case fresh != nil: // both stand: the old one goes when the new one is available
			surging++
			if p.available(fresh) && !slices.Contains(p.remove, old) {
				p.remove = append(p.remove, old)
			}
		case at.unseen > 0:
			surging++
		case !p.available(old):
			unavailable++
			if p.surge > 0 {
				p.create = append(p.create, at.node)
			} else {
				p.remove = append(p.remove, old)
			}
		case p.surge > 0:
			start = append(start, at)
		default:
			replace = append(replace, at)
		}
	}
	for _, at := range start[:min(len(start), max(0, p.surge-surging))] {
		p.create = append(p.create, at.node)
	}
	for _, at := range replace[:min(len(replace), max(0, p.limit-unavailable))] {
		_, old := p.standing(at)
		p.remove = append(p.remove, old)
	}
}

func (p *planner) available(pod *corev1.Pod) bool {
	ok, wait := podstate.Available(pod, p.ds.Spec.MinReadySeconds, p.now)
	p.wake(wait)
	return ok
}

// wake asks for another look after a while, when that is sooner than what was asked for.
func (p *planner) wake(after time.Duration) {
	if after > 0 && (p.again == 0 || after < p.again) {
		p.again = after
	}
}

// makeStatus counts nodes, not pods: on each the oldest pod speaks.
func (p *planner) makeStatus() appsv1.DaemonSetStatus {
	s := appsv1.DaemonSetStatus{ObservedGeneration: p.ds.Generation, CollisionCount: p.ds.Status.CollisionCount, Conditions: p.ds.Status.Conditions}
	for _, at := range p.places {
		switch {
		case !at.run:
			if len(at.pods) > 0 {
				s.NumberMisscheduled++
			}
			continue
		case len(at.pods) == 0:
			s.DesiredNumberScheduled++
			continue
		}
		s.DesiredNumberScheduled++
		s.CurrentNumberScheduled++
		pod := at.pods[0]
		if podstate.Ready(pod) {
			s.NumberReady++
			if p.available(pod) {
				s.NumberAvailable++
			}
		}
		if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == p.hash {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}
