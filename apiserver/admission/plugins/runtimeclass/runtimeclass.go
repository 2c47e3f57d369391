// Package runtimeclass gives a pod what its runtime class says: the overhead that it costs, and the nodes that have it. A
// pod whose own words contradict its class is refused, as is one whose class is not there, or with an overhead of its own.
package runtimeclass

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/admission"
)

// Plugin is the plugin. Class finds a runtime class; the error is a Status.
type Plugin struct {
	Class func(ctx context.Context, name string) (*nodev1.RuntimeClass, error)
}

// Name is upstream's.
func (Plugin) Name() string { return "RuntimeClass" }

// Mutate merges the class into a new pod.
func (p Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	pod, class, err := p.of(ctx, a)
	if pod == nil || class == nil || err != nil {
		return err
	}
	if o := class.Overhead; o != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(o.PodFixed, pod.Spec.Overhead) {
			return admission.Forbid(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		pod.Spec.Overhead = o.PodFixed.DeepCopy()
	}
	s := class.Scheduling
	if s == nil {
		return nil
	}
	selector := maps.Clone(pod.Spec.NodeSelector)
	for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		value := s.NodeSelector[key]
		if has, ok := selector[key]; ok && has != value {
			return admission.Forbid(a, "conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, has)
		}
		if selector == nil {
			selector = map[string]string{}
		}
		selector[key] = value
	}
	pod.Spec.NodeSelector = selector
	pod.Spec.Tolerations = admission.MergeTolerations(pod.Spec.Tolerations, s.Tolerations)
	return nil
}

// Validate makes sure that nothing after Mutate has changed the overhead.
func (p Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, class, err := p.of(ctx, a)
	switch {
	case pod == nil || err != nil:
		return err
	case class == nil || class.Overhead == nil:
		if pod.Spec.Overhead != nil {
			return admission.Forbid(a, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
	case !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead):
		return admission.Forbid(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	}
	return nil
}

// of returns the new pod of a write, nil when it is about something else, and the pod's class, nil when it has none.
func (p Plugin) of(ctx context.Context, a *admission.Attributes) (*corev1.Pod, *nodev1.RuntimeClass, error) {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != admission.Create || a.Subresource != "" {
		return nil, nil, nil
	}
	if pod.Spec.RuntimeClassName == nil {
		return pod, nil, nil
	}
	class, err := p.Class(ctx, *pod.Spec.RuntimeClassName)
	if apierrors.IsNotFound(err) {
		return nil, nil, admission.Forbid(a, "pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
	}
	return pod, class, err
}
