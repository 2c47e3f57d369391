package deployment

import (
	"cmp"
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// scale gives the ReplicaSets the sizes that a Deployment of another size, or a paused one, is to have. One ReplicaSet
// with pods (or, when none has, the newest) takes the whole size; beside a current one that is full, the old ones go to
// nothing; otherwise a rolling update is under way and all are scaled in proportion.
func (p *planner) scale() {
	want := desired(p.deployment)
	if only := p.activeOrLatest(); only != nil {
		if replicas(only) != want {
			p.resize(only, want)
		}
		return
	}
	if p.saturated() {
		for _, rs := range active(p.old) {
			p.resize(rs, 0)
		}
		return
	}
	if rolling(p.deployment) {
		p.scaleInProportion()
	}
}

// activeOrLatest returns the only ReplicaSet that asks for pods, or the newest when none does; nil when several do.
func (p *planner) activeOrLatest() *appsv1.ReplicaSet {
	running := active(p.all())
	switch {
	case len(running) == 1:
		return running[0]
	case len(running) > 1:
		return nil
	case p.cur != nil:
		return p.cur
	case len(p.old) > 0:
		return p.old[len(p.old)-1]
	default:
		return nil
	}
}

// saturated reports whether the current ReplicaSet has all the pods of the Deployment, and they are available.
func (p *planner) saturated() bool {
	if p.cur == nil {
		return false
	}
	want := desired(p.deployment)
	noted, ok := size(p.cur, DesiredReplicasAnnotation)
	return ok && noted == want && replicas(p.cur) == want && available(p.cur) == want
}

// scaleInProportion spreads the pods that were gained or lost over the ReplicaSets by their sizes, the largest first;
// among equals the newer ones grow first and the older ones shrink first. What rounding leaves over goes to the
// largest.
func (p *planner) scaleInProportion() {
	want := desired(p.deployment)
	sets := active(p.all())
	most := int32(0)
	if want > 0 {
		most = want + p.surge
	}
	add := most - sum(sets, replicas)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if c := cmp.Compare(replicas(b), replicas(a)); c != 0 {
			return c
		}
		if add > 0 {
			return byAge(b, a)
		}
		return byAge(a, b)
	})
	sizes := make([]int32, len(sets))
	added := int32(0)
	for i, rs := range sets {
		sizes[i] = replicas(rs)
		if add != 0 {
			part := within(p.share(rs, want+p.surge), add-added)
			sizes[i] += part
			added += part
		}
	}
	if add != 0 && len(sizes) > 0 {
		sizes[0] = max(0, sizes[0]+add-added)
	}
	for i, rs := range sets {
		p.resize(rs, sizes[i])
	}
}

// share is the change of size that keeps the ReplicaSet's part of the whole: the whole grew from what was noted on it
// to most.
func (p *planner) share(rs *appsv1.ReplicaSet, most int32) int32 {
	if desired(p.deployment) == 0 {
		return -replicas(rs)
	}
	before, ok := size(rs, MaxReplicasAnnotation)
	if !ok || before == 0 {
		if before = p.deployment.Status.Replicas; before == 0 {
			return 0
		}
	}
	part := float64(replicas(rs)) * float64(most) / float64(before)
	return int32(math.Round(part)) - replicas(rs)
}

// within cuts a share to what is left, on either side of zero.
func within(part, left int32) int32 {
	if left > 0 {
		return min(part, left)
	}
	return max(part, left)
}
