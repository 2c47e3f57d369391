// Package evict asks the disruption budgets before a pod is evicted, and counts each eviction against its budget at
// once, so that many at the same time cannot together do what one of them may not.
//
// It reads the budgets of the pod's namespace from the cache and writes the status of the one that covers the pod:
// disruptionsAllowed falls by one and the pod is noted as disrupted, until the disruption controller has seen it go. A
// refusal is 429 with the reason, and clients come back.
package evict

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
)

const (
	// maxDisrupted bounds the pods that a budget notes as disrupted and not yet gone.
	maxDisrupted = 2000
	// retrySeconds is what a client is told to wait when the controller has yet to look at a budget.
	retrySeconds = 10
)

// Budgets is the hook in front of pods/eviction.
type Budgets struct {
	Registry *registry.Registry // of poddisruptionbudgets
}

// Before returns what was sent, with a condition added to it where only the pod that was judged may go, or the reason
// why it may not go.
func (b Budgets) Before(ctx context.Context, obj resource.Object, sent runtime.Object, dryRun bool) (runtime.Object, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("%T cannot be evicted", obj)
	}
	eviction, ok := sent.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("wanted an Eviction, got a %T", sent))
	}
	if o := eviction.DeleteOptions; o != nil {
		dryRun = dryRun || len(o.DryRun) > 0
	}
	if done(pod) {
		return sent, nil
	}
	if pod.Status.Phase == corev1.PodPending {
		return onlyThis(pod, eviction), nil
	}
	covering, err := b.covering(ctx, pod)
	if err != nil || len(covering) == 0 {
		return sent, err
	}
	if len(covering) > 1 {
		return nil, apierrors.NewInternalError(fmt.Errorf("this pod has more than one PodDisruptionBudget, which the eviction subresource does not support"))
	}
	budget := covering[0]
	if !ready(pod) && spares(budget) {
		return onlyThis(pod, eviction), nil
	}
	_, _, _, err = b.Registry.Update(ctx, budget.Namespace, budget.Name, "status", func(current resource.Object) (resource.Object, error) {
		return take(current, pod.Name, time.Now())
	}, &metav1.UpdateOptions{DryRun: dryRunOption(dryRun)}, false)
	return sent, err
}

func dryRunOption(dry bool) []string {
	if dry {
		return []string{metav1.DryRunAll}
	}
	return nil
}

// done says that no eviction can disrupt anything any more.
func done(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// spares says that a budget does not count pods that are not ready: always, or while enough others are.
func spares(b *policyv1.PodDisruptionBudget) bool {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// onlyThis lets the eviction go through only while the pod is as it was judged.
func onlyThis(p *corev1.Pod, e *policyv1.Eviction) *policyv1.Eviction {
	e = e.DeepCopy()
	if e.DeleteOptions == nil {
		e.DeleteOptions = &metav1.DeleteOptions{}
	}
	if e.DeleteOptions.Preconditions == nil {
		e.DeleteOptions.Preconditions = &metav1.Preconditions{}
	}
	if rv := e.DeleteOptions.Preconditions.ResourceVersion; rv == nil || *rv == "" {
		version := p.ResourceVersion
		e.DeleteOptions.Preconditions.ResourceVersion = &version
	}
	return e
}

// covering lists the budgets that select a pod.
func (b Budgets) covering(ctx context.Context, p *corev1.Pod) ([]*policyv1.PodDisruptionBudget, error) {
	list, err := b.Registry.List(ctx, registry.Query{Namespace: p.Namespace})
	if err != nil {
		return nil, err
	}
	var out []*policyv1.PodDisruptionBudget
	for _, it := range list.Items {
		budget, ok := it.Object.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil {
			continue // it covers nothing that anybody could name
		}
		if selector.Matches(labels.Set(p.Labels)) {
			out = append(out, budget)
		}
	}
	return out, nil
}

// take counts one disruption against a budget, or says why it does not allow one.
func take(current resource.Object, pod string, now time.Time) (resource.Object, error) {
	b, ok := current.(*policyv1.PodDisruptionBudget)
	if !ok {
		return nil, fmt.Errorf("%T is no PodDisruptionBudget", current)
	}
	s := &b.Status
	forbidden := func(reason string) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}, b.Name, fmt.Errorf("%s", reason))
	}
	switch {
	case s.ObservedGeneration < b.Generation:
		return nil, tooMany(retrySeconds, fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name))
	case s.DisruptionsAllowed < 0:
		return nil, forbidden("pdb disruptions allowed is negative")
	case len(s.DisruptedPods) > maxDisrupted:
		return nil, forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
	case s.DisruptionsAllowed == 0:
		text := fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, s.DesiredHealthy, s.CurrentHealthy)
		if c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); c != nil && c.Reason == policyv1.SyncFailedReason {
			text = fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %v", b.Name, c.Message)
		}
		return nil, tooMany(0, text)
	}
	s.DisruptionsAllowed--
	if s.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Reason: policyv1.InsufficientPodsReason, Status: metav1.ConditionFalse, ObservedGeneration: s.ObservedGeneration,
		})
	}
	if s.DisruptedPods == nil {
		s.DisruptedPods = map[string]metav1.Time{}
	}
	// The controller takes the pod from this list when it sees it go, or after a while, should it stay.
	s.DisruptedPods[pod] = metav1.NewTime(now)
	return b, nil
}

// tooMany is the refusal that eviction clients wait and try again for.
func tooMany(seconds int, text string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: text})
	return err
}
