// Package priority turns a pod's priority class into the number that the scheduler goes by: that of the named class, of
// the class that is the default for all, or zero. It also keeps a cluster from having two such defaults.
package priority

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"hardway/apiserver/admission"
)

// Plugin is the plugin. Classes lists what there is.
type Plugin struct {
	Classes func(ctx context.Context) ([]*schedulingv1.PriorityClass, error)
}

// Name is upstream's.
func (Plugin) Name() string { return "Priority" }

// Mutate sets priority and preemption policy of a new pod.
func (p Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" {
		return nil
	}
	switch a.Operation {
	case admission.Create:
		return p.set(ctx, a, pod)
	case admission.Update:
		old, ok := a.Old.(*corev1.Pod)
		if !ok {
			return nil
		}
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
	}
	return nil
}

func (p Plugin) set(ctx context.Context, a *admission.Attributes, pod *corev1.Pod) error {
	class, err := p.find(ctx, a, pod.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	value, policy := class.Value, corev1.PreemptLowerPriority
	if class.PreemptionPolicy != nil {
		policy = *class.PreemptionPolicy
	}
	if has := pod.Spec.Priority; has != nil && *has != value {
		return admission.Forbid(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission "+
			"controller computed %d from the given PriorityClass name", *has, value)
	}
	if has := pod.Spec.PreemptionPolicy; has != nil && *has != policy {
		return admission.Forbid(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority "+
			"admission controller computed %s from the given PriorityClass name", *has, policy)
	}
	pod.Spec.PriorityClassName = class.Name
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// find returns the named class, or for an empty name the default for all, which may be nameless.
func (p Plugin) find(ctx context.Context, a *admission.Attributes, name string) (*schedulingv1.PriorityClass, error) {
	classes, err := p.Classes(ctx)
	if err != nil {
		return nil, admission.Forbid(a, "look for priority classes: %w", err)
	}
	if name == "" {
		if c := byDefault(classes); c != nil {
			return c, nil
		}
		return &schedulingv1.PriorityClass{}, nil
	}
	for _, c := range classes {
		if c.Name == name {
			return c, nil
		}
	}
	return nil, admission.Forbid(a, "no PriorityClass with name %v was found", name)
}

// byDefault is the default for all: of several the one with the lowest value, as upstream.
func byDefault(classes []*schedulingv1.PriorityClass) *schedulingv1.PriorityClass {
	var best *schedulingv1.PriorityClass
	for _, c := range classes {
		if c.GlobalDefault && (best == nil || c.Value < best.Value) {
			best = c
		}
	}
	return best
}

// Validate refuses a second default for all.
func (p Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || a.Subresource != "" || !class.GlobalDefault {
		return nil
	}
	classes, err := p.Classes(ctx)
	if err != nil {
		return admission.Forbid(a, "look for priority classes: %w", err)
	}
	if have := byDefault(classes); have != nil && have.Name != class.Name {
		return admission.Forbid(a, "PriorityClass %v is already marked as default. Only one default can exist", have.Name)
	}
	return nil
}
