// Package limitranger applies the LimitRanges of a namespace: containers that say nothing get the default requests and
// limits, and pods, containers and claims must stay between the bounds.
package limitranger

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"hardway/apiserver/admission"
)

// annotation tells the user which values came from a LimitRange.
const annotation = "kubernetes.io/limit-ranger"

// Plugin is the plugin. Ranges lists those of a namespace, up to date.
type Plugin struct {
	Ranges func(ctx context.Context, namespace string) ([]*corev1.LimitRange, error)
}

// Name is upstream's.
func (Plugin) Name() string { return "LimitRanger" }

// applies: pods when they are made or resized, claims when they are made or changed.
func applies(a *admission.Attributes) bool {
	switch a.Object.(type) {
	case *corev1.Pod:
		return a.Operation == admission.Create && a.Subresource == "" || a.Operation == admission.Update && a.Subresource == "resize"
	case *corev1.PersistentVolumeClaim:
		return a.Subresource == ""
	}
	return false
}

// Mutate gives a new pod's containers their defaults.
func (p Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !applies(a) || a.Operation != admission.Create {
		return nil
	}
	ranges, err := p.Ranges(ctx, a.Namespace)
	if err != nil {
		return admission.Forbid(a, "look at limit ranges: %w", err)
	}
	var notes []string
	for _, r := range ranges {
		requests, limits := defaults(r)
		for _, list := range []struct {
			what       string
			containers []corev1.Container
		}{{"container", pod.Spec.Containers}, {"init container", pod.Spec.InitContainers}} {
			for i := range list.containers {
				notes = append(notes, fill(&list.containers[i], list.what, requests, limits)...)
			}
		}
	}
	if len(notes) > 0 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[annotation] = "LimitRanger plugin set: " + join(notes)
	}
	return nil
}

func join(notes []string) string {
	out := notes[0]
	for _, n := range notes[1:] {
		out += "; " + n
	}
	return out
}

// defaults are what containers get from a range.
func defaults(r *corev1.LimitRange) (requests, limits corev1.ResourceList) {
	requests, limits = corev1.ResourceList{}, corev1.ResourceList{}
	for _, l := range r.Spec.Limits {
		if l.Type != corev1.LimitTypeContainer {
			continue
		}
		for name, q := range l.DefaultRequest {
			requests[name] = q.DeepCopy()
		}
		for name, q := range l.Default {
			limits[name] = q.DeepCopy()
		}
	}
	return requests, limits
}

// fill sets what a container leaves open, and says what it has set.
func fill(c *corev1.Container, what string, requests, limits corev1.ResourceList) []string {
	set := func(to *corev1.ResourceList, from corev1.ResourceList) (names []string) {
		for name, q := range from {
			if _, has := (*to)[name]; has {
				continue
			}
			if *to == nil {
				*to = corev1.ResourceList{}
			}
			(*to)[name] = q.DeepCopy()
			names = append(names, string(name))
		}
		slices.Sort(names)
		return names
	}
	var notes []string
	if names := set(&c.Resources.Requests, requests); len(names) > 0 {
		notes = append(notes, fmt.Sprintf("%s request for %s %s", list(names), what, c.Name))
	}
	if names := set(&c.Resources.Limits, limits); len(names) > 0 {
		notes = append(notes, fmt.Sprintf("%s limit for %s %s", list(names), what, c.Name))
	}
	return notes
}

func list(names []string) string {
	out := names[0]
	for _, n := range names[1:] {
		out += ", " + n
	}
	return out
}

// Validate checks the bounds.
func (p Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if !applies(a) {
		return nil
	}
	ranges, err := p.Ranges(ctx, a.Namespace)
	if err != nil {
		return admission.Forbid(a, "look at limit ranges: %w", err)
	}
	var errs []error
	for _, r := range ranges {
		for i := range r.Spec.Limits {
			errs = append(errs, check(a.Object, &r.Spec.Limits[i])...)
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		return admission.Forbid(a, "%w", err)
	}
	return nil
}

func check(obj any, l *corev1.LimitRangeItem) []error {
	switch o := obj.(type) {
	case *corev1.PersistentVolumeClaim:
		if l.Type == corev1.LimitTypePersistentVolumeClaim {
			return bounds(l, o.Spec.Resources.Requests, nil)
		}
	case *corev1.Pod:
		switch l.Type {
		case corev1.LimitTypeContainer:
			var errs []error
			for _, list := range [][]corev1.Container{o.Spec.Containers, o.Spec.InitContainers} {
				for i := range list {
					errs = append(errs, bounds(l, list[i].Resources.Requests, list[i].Resources.Limits)...)
				}
			}
			return errs
		case corev1.LimitTypePod:
			return bounds(l, podTotal(o, requestsOf), podTotal(o, limitsOf))
		}
	}
	return nil
}

func requestsOf(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests }
func limitsOf(c *corev1.Container) corev1.ResourceList   { return c.Resources.Limits }

// podTotal is what all containers take together, or an init container alone if that is more. A resource that not every
// container speaks of has no total.
func podTotal(p *corev1.Pod, of func(*corev1.Container) corev1.ResourceList) corev1.ResourceList {
	total := corev1.ResourceList{}
	for i := range p.Spec.Containers {
		for name, q := range of(&p.Spec.Containers[i]) {
			sum := total[name]
			sum.Add(q)
			total[name] = sum
		}
	}
	for i := range p.Spec.InitContainers {
		for name, q := range of(&p.Spec.InitContainers[i]) {
			if have, ok := total[name]; !ok || have.Cmp(q) < 0 {
				total[name] = q.DeepCopy()
			}
		}
	}
	return total
}

// bounds checks requests and limits against one item, in upstream's sentences.
func bounds(l *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	each(l.Min, func(name corev1.ResourceName, bound resource.Quantity) {
		errs = append(errs, atLeast(l.Type, name, bound, requests, limits))
	})
	each(l.Max, func(name corev1.ResourceName, bound resource.Quantity) {
		errs = append(errs, atMost(l.Type, name, bound, requests, limits))
	})
	each(l.MaxLimitRequestRatio, func(name corev1.ResourceName, bound resource.Quantity) {
		errs = append(errs, ratio(l.Type, name, bound, requests, limits))
	})
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func each(l corev1.ResourceList, f func(corev1.ResourceName, resource.Quantity)) {
	names := make([]corev1.ResourceName, 0, len(l))
	for name := range l {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f(name, l[name])
	}
}

func atLeast(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	request, requested := requests[name]
	limit, limited := limits[name]
	switch {
	case !requested:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, t, bound.String())
	case request.Cmp(bound) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, t, bound.String(), request.String())
	case limited && limit.Cmp(bound) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, t, bound.String(), limit.String())
	}
	return nil
}

func atMost(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	request, requested := requests[name]
	limit, limited := limits[name]
	if t == corev1.LimitTypePersistentVolumeClaim {
		if !requested {
			return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, t, bound.String())
		}
		limit, limited = request, true
	}
	switch {
	case !limited:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, t, bound.String())
	case limit.Cmp(bound) > 0 && t == corev1.LimitTypePersistentVolumeClaim:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, t, bound.String(), request.String())
	case limit.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, t, bound.String(), limit.String())
	case requested && request.Cmp(bound) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, t, bound.String(), request.String())
	}
	return nil
}

func ratio(t corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	request, requested := requests[name]
	limit, limited := limits[name]
	switch {
	case !requested || request.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, t, bound.String())
	case !limited || limit.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, t, bound.String())
	}
	if have := float64(limit.MilliValue()) / float64(request.MilliValue()); have > float64(bound.MilliValue())/1000 {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, t, bound.String(), have)
	}
	return nil
}
