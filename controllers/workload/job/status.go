package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/podstate"
)

// suspension reports that the Job was suspended or goes on again. Going on starts the clock anew.
func (p *planner) suspension(suspended, ending bool) {
	if ending {
		return
	}
	at := slices.IndexFunc(p.status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobSuspended })
	was := at >= 0 && p.status.Conditions[at].Status == corev1.ConditionTrue
	switch {
	case suspended:
		p.status.StartTime = nil
		if !was {
			p.set(*p.condition(batchv1.JobSuspended, "JobSuspended", "Job suspended"))
		}
	case was:
		c := p.condition(batchv1.JobSuspended, "JobResumed", "Job resumed")
		c.Status = corev1.ConditionFalse
		p.set(*c)
		p.status.StartTime = new(metav1.NewTime(p.now))
	}
}

// conclude reports the pods as they are after the plan. A Job that is over first says so by its target, then stops what
// runs, and is complete or failed only when everything has ended and is counted.
func (p *planner) conclude(target *batchv1.JobCondition) {
	leaving := map[*corev1.Pod]bool{}
	for _, pod := range slices.Concat(p.strip, p.stop) {
		leaving[pod] = true
	}
	ready := int32(0)
	for _, pod := range p.active {
		if !leaving[pod] && podstate.Ready(pod) {
			ready++
		}
	}
	active := len(p.active) - len(leaving) + len(p.unseen) + len(p.create)
	terminating := p.terminating + len(leaving)
	p.status.Active, p.status.Ready, p.status.Terminating = int32(active), &ready, new(int32(terminating))
	if target == nil {
		return
	}
	p.set(*target)
	u := p.status.UncountedTerminatedPods
	if active+terminating+len(u.Succeeded)+len(u.Failed)+len(p.fresh) > 0 {
		return
	}
	final := *target
	final.LastProbeTime, final.LastTransitionTime = metav1.NewTime(p.now), metav1.NewTime(p.now)
	final.Type = batchv1.JobFailed
	if target.Type == batchv1.JobSuccessCriteriaMet {
		final.Type = batchv1.JobComplete
		p.status.CompletionTime = new(metav1.NewTime(p.now))
	}
	p.set(final)
	p.releaseAll()
}

func (p *planner) condition(kind batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	now := metav1.NewTime(p.now)
	return &batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now, Reason: reason, Message: message}
}

// set replaces the condition of the same type, or adds it.
func (p *planner) set(c batchv1.JobCondition) {
	for i := range p.status.Conditions {
		if p.status.Conditions[i].Type == c.Type {
			p.status.Conditions[i] = c
			return
		}
	}
	p.status.Conditions = append(p.status.Conditions, c)
}

// find returns the condition of a type if it is true.
func find(s *batchv1.JobStatus, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind && s.Conditions[i].Status == corev1.ConditionTrue {
			found := s.Conditions[i]
			return &found
		}
	}
	return nil
}
