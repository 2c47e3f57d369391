package deployment

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of conditions; kubectl rollout status and users' scripts read them.
const (
	reasonAvailable      = "MinimumReplicasAvailable"
	reasonUnavailable    = "MinimumReplicasUnavailable"
	reasonUpdated        = "ReplicaSetUpdated"
	reasonCreateError    = "ReplicaSetCreateError"
	reasonNewSet         = "NewReplicaSetCreated"
	reasonFoundSet       = "FoundNewReplicaSet"
	reasonNewSetComplete = "NewReplicaSetAvailable"
	reasonTimedOut       = "ProgressDeadlineExceeded"
	reasonPaused         = "DeploymentPaused"
	reasonResumed        = "DeploymentResumed"
)

// baseStatus counts, and says whether enough pods are available and whether the rollout is paused.
func (p *planner) baseStatus() appsv1.DeploymentStatus {
	d, all := p.deployment, p.all()
	s := appsv1.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		Replicas:            sum(all, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas }),
		ReadyReplicas:       sum(all, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas }),
		AvailableReplicas:   sum(all, available),
		TerminatingReplicas: terminating(all),
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          slices.Clone(d.Status.Conditions),
	}
	if p.cur != nil {
		s.UpdatedReplicas = p.cur.Status.Replicas
	}
	s.UnavailableReplicas = max(0, sum(all, replicas)-s.AvailableReplicas)
	if s.AvailableReplicas >= desired(d)-p.unavailable {
		p.set(&s, appsv1.DeploymentAvailable, corev1.ConditionTrue, reasonAvailable, "Deployment has minimum availability.")
	} else {
		p.set(&s, appsv1.DeploymentAvailable, corev1.ConditionFalse, reasonUnavailable, "Deployment does not have minimum availability.")
	}
	if hasDeadline(d) {
		p.pauseCondition(&s)
		p.foundCondition(&s)
	}
	return s
}

// pauseCondition says that the rollout was paused or resumed; a deadline that passed before stays visible.
func (p *planner) pauseCondition(s *appsv1.DeploymentStatus) {
	cond := find(s.Conditions, appsv1.DeploymentProgressing)
	if cond != nil && cond.Reason == reasonTimedOut {
		return
	}
	noted := cond != nil && cond.Reason == reasonPaused
	switch paused := p.deployment.Spec.Paused; {
	case paused && !noted:
		p.set(s, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !paused && noted:
		p.set(s, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
}

// foundCondition starts the clock of a rollout: the current ReplicaSet is about to be created, or was found without any
// report of progress.
func (p *planner) foundCondition(s *appsv1.DeploymentStatus) {
	switch {
	case p.create != nil:
		p.set(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonNewSet, fmt.Sprintf("Created new replica set %q", p.create.Name))
	case p.cur != nil && find(s.Conditions, appsv1.DeploymentProgressing) == nil:
		p.set(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFoundSet, fmt.Sprintf("Found new replica set %q", p.cur.Name))
	}
}

// rolloutStatus is baseStatus with the progress of the rollout and the failures of its ReplicaSets. It also plans the
// next look at the deadline.
func (p *planner) rolloutStatus() appsv1.DeploymentStatus {
	d, s := p.deployment, p.baseStatus()
	cond := find(s.Conditions, appsv1.DeploymentProgressing)
	done := s.Replicas == s.UpdatedReplicas && cond != nil && cond.Reason == reasonNewSetComplete
	switch {
	case !hasDeadline(d):
		drop(&s, appsv1.DeploymentProgressing)
	case done:
	case complete(d, &s):
		p.set(&s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonNewSetComplete, p.subject()+" has successfully progressed.")
	case progressed(&d.Status, &s):
		p.progress(&s, cond)
	case p.timedOut(cond):
		p.set(&s, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, p.subject()+" has timed out progressing.")
	}
	if failure := p.failure(); failure != nil {
		p.set(&s, appsv1.DeploymentReplicaFailure, failure.Status, failure.Reason, failure.Message)
	} else {
		drop(&s, appsv1.DeploymentReplicaFailure)
	}
	p.again = p.nextLook(&s)
	return s
}

// progress reports that the rollout moved; its time of update restarts the deadline even when nothing else in the
// condition changes.
func (p *planner) progress(s *appsv1.DeploymentStatus, before *appsv1.DeploymentCondition) {
	since := metav1.NewTime(p.now)
	if before != nil && before.Status == corev1.ConditionTrue {
		since = before.LastTransitionTime
	}
	drop(s, appsv1.DeploymentProgressing)
	s.Conditions = append(s.Conditions, appsv1.DeploymentCondition{
		Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(p.now), LastTransitionTime: since,
		Reason: reasonUpdated, Message: p.subject() + " is progressing.",
	})
}

// progressed reports whether more updated, ready or available pods exist than last reported, or fewer old ones.
func progressed(before, after *appsv1.DeploymentStatus) bool {
	return after.UpdatedReplicas > before.UpdatedReplicas ||
		after.Replicas-after.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		after.ReadyReplicas > before.ReadyReplicas ||
		after.AvailableReplicas > before.AvailableReplicas
}

// timedOut reports whether the last progress lies further back than the deadline.
func (p *planner) timedOut(cond *appsv1.DeploymentCondition) bool {
	switch {
	case cond == nil || cond.Reason == reasonNewSetComplete:
		return false
	case cond.Reason == reasonTimedOut:
		return true
	default:
		return cond.LastUpdateTime.Add(p.deadline()).Before(p.now)
	}
}

func (p *planner) deadline() time.Duration {
	return time.Duration(*p.deployment.Spec.ProgressDeadlineSeconds) * time.Second
}

// nextLook is the time until the deadline passes, 0 when nothing waits for it. A second is added because API times have
// no fractions.
func (p *planner) nextLook(s *appsv1.DeploymentStatus) time.Duration {
	cond := find(s.Conditions, appsv1.DeploymentProgressing)
	if !hasDeadline(p.deployment) || cond == nil || complete(p.deployment, s) || cond.Reason == reasonTimedOut {
		return 0
	}
	return max(time.Second, cond.LastUpdateTime.Add(p.deadline()).Sub(p.now)+time.Second)
}

// failure returns the ReplicaFailure condition of a ReplicaSet, the current one's before the others'.
func (p *planner) failure() *appsv1.ReplicaSetCondition {
	sets := slices.Clone(p.all())
	slices.Reverse(sets) // the current one is last
	for _, rs := range sets {
		for i := range rs.Status.Conditions {
			if rs.Status.Conditions[i].Type == appsv1.ReplicaSetReplicaFailure {
				return &rs.Status.Conditions[i]
			}
		}
	}
	return nil
}

// subject is what progress messages speak of.
func (p *planner) subject() string {
	if p.cur != nil {
		return fmt.Sprintf("ReplicaSet %q", p.cur.Name)
	}
	return fmt.Sprintf("Deployment %q", p.deployment.Name)
}

// terminating adds up terminating pods; nil when a ReplicaSet has not reported them.
func terminating(sets []*appsv1.ReplicaSet) *int32 {
	total := int32(0)
	for _, rs := range sets {
		if rs.Status.TerminatingReplicas == nil {
			if rs.Status.ObservedGeneration != 0 {
				return nil
			}
			continue
		}
		total += *rs.Status.TerminatingReplicas
	}
	return &total
}

// set writes a condition unless one with the same status and reason stands; the time of transition changes only with
// the status.
func (p *planner) set(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	setCondition(s, appsv1.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message}, p.now)
}

func setCondition(s *appsv1.DeploymentStatus, fresh appsv1.DeploymentCondition, now time.Time) {
	fresh.LastUpdateTime, fresh.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	if old := find(s.Conditions, fresh.Type); old != nil && old.Status == fresh.Status {
		if old.Reason == fresh.Reason {
			return
		}
		fresh.LastTransitionTime = old.LastTransitionTime
	}
	drop(s, fresh.Type)
	s.Conditions = append(s.Conditions, fresh)
}

func find(conditions []appsv1.DeploymentCondition, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			found := conditions[i]
			return &found
		}
	}
	return nil
}

func drop(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}
