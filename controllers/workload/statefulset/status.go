package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/podstate"
)

// makeStatus counts what the cache shows. When all replicas are updated and ready the update's revision becomes the
// current one.
func (p *planner) makeStatus() appsv1.StatefulSetStatus {
	s := *p.set.Status.DeepCopy()
	s.ObservedGeneration = p.set.Generation
	s.CurrentRevision, s.UpdateRevision = p.current.name, p.update.name
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = 0, 0, 0, 0, 0
	for _, list := range [][]replica{p.replicas, p.condemned} {
		for _, r := range list {
			if r.pod != nil {
				p.count(&s, r)
			}
		}
	}
	want := int32(wanted(p.set))
	if p.set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType &&
		s.UpdatedReplicas == want && s.Replicas == want && s.ReadyReplicas == want {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	return s
}

func (p *planner) count(s *appsv1.StatefulSetStatus, r replica) {
	if podstate.Terminal(r.pod) {
		return
	}
	s.Replicas++
	if r.pod.Status.Phase == corev1.PodRunning && podstate.Ready(r.pod) {
		s.ReadyReplicas++
		if p.available(r) || r.going && p.wasAvailable(r) {
			s.AvailableReplicas++
		}
	}
	if r.going {
		return
	}
	if revisionOf(r.pod) == s.CurrentRevision {
		s.CurrentReplicas++
	}
	if revisionOf(r.pod) == s.UpdateRevision {
		s.UpdatedReplicas++
	}
}

func (p *planner) wasAvailable(r replica) bool {
	ok, _ := podstate.Available(r.pod, p.set.Spec.MinReadySeconds, p.now)
	return ok
}
