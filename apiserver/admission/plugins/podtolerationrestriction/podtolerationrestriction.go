// Package podtolerationrestriction gives pods the default tolerations of their namespace and refuses those that the
// namespace does not allow. Namespaces say both in annotations; the configuration has what holds for the others.
package podtolerationrestriction

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/admission"
)

const (
	name              = "PodTolerationRestriction"
	defaultAnnotation = "scheduler.alpha.kubernetes.io/defaultTolerations"
	allowedAnnotation = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
)

// Namespace finds a namespace; the error is a Status.
type Namespace func(ctx context.Context, name string) (*corev1.Namespace, error)

// Plugin is the plugin.
type Plugin struct {
	namespace Namespace
	whole     config
}

type config struct {
	APIVersion string              `json:"apiVersion"`
	Kind       string              `json:"kind"`
	Default    []corev1.Toleration `json:"default"`
	Allowed    []corev1.Toleration `json:"whitelist"`
}

// New makes the plugin.
func New(conf admission.Config, namespace Namespace) (*Plugin, error) {
	p := &Plugin{namespace: namespace}
	return p, conf.Decode(name, "Configuration", &p.whole)
}

// Name is upstream's.
func (*Plugin) Name() string { return name }

// Mutate adds the defaults to a new pod, and to pods that are not the first to go the toleration for full memory.
func (p *Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	pod := concerned(a)
	if pod == nil {
		return nil
	}
	var more []corev1.Toleration
	if a.Operation == admission.Create {
		said, own, err := p.said(ctx, a, defaultAnnotation)
		if err != nil {
			return err
		}
		if more = said; !own {
			more = p.whole.Default
		}
	}
	if !bestEffort(pod) {
		more = append(slices.Clone(more), corev1.Toleration{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	if len(more) > 0 {
		pod.Spec.Tolerations = admission.MergeTolerations(pod.Spec.Tolerations, more)
	}
	return nil
}

// Validate refuses tolerations that nothing on the list of allowed ones covers.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod := concerned(a)
	if pod == nil || len(pod.Spec.Tolerations) == 0 {
		return nil
	}
	allowed, own, err := p.said(ctx, a, allowedAnnotation)
	if err != nil {
		return err
	}
	scope := "namespace"
	if !own {
		allowed, scope = p.whole.Allowed, "cluster"
	}
	if len(allowed) == 0 {
		return nil
	}
	for i := range pod.Spec.Tolerations {
		if !slices.ContainsFunc(allowed, func(w corev1.Toleration) bool { return admission.Covers(&w, &pod.Spec.Tolerations[i]) }) {
			return admission.Forbid(a, "pod tolerations (possibly merged with namespace default tolerations) conflict with its %s whitelist", scope)
		}
	}
	return nil
}

func concerned(a *admission.Attributes) *corev1.Pod {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" {
		return nil
	}
	return pod
}

// said reads an annotation of the pod's namespace; own says that it is there.
func (p *Plugin) said(ctx context.Context, a *admission.Attributes, annotation string) (list []corev1.Toleration, own bool, err error) {
	ns, err := p.namespace(ctx, a.Namespace)
	if err != nil {
		return nil, false, err
	}
	text, own := ns.Annotations[annotation]
	if text != "" {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, false, admission.Forbid(a, "annotation %s of the namespace: %w", annotation, err)
		}
	}
	return list, own, nil
}

// bestEffort says whether a pod asks for neither CPU nor memory.
func bestEffort(pod *corev1.Pod) bool {
	counts := func(l corev1.ResourceList) bool { return !l.Cpu().IsZero() || !l.Memory().IsZero() }
	if r := pod.Spec.Resources; r != nil && (counts(r.Requests) || counts(r.Limits)) {
		return false
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if counts(c.Resources.Requests) || counts(c.Resources.Limits) {
			return false
		}
	}
	return true
}
