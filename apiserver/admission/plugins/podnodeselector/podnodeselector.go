// Package podnodeselector gives the pods of a namespace the node selector of the namespace: that of its annotation
// scheduler.alpha.kubernetes.io/node-selector, else the cluster's default one. The configuration may also list, by
// namespace, the labels that its pods may choose nodes by.
package podnodeselector

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/apiserver/admission"
)

const (
	name          = "PodNodeSelector"
	annotation    = "scheduler.alpha.kubernetes.io/node-selector"
	defaultForAll = "clusterDefaultNodeSelector"
)

// Namespace finds a namespace; the error is a Status.
type Namespace func(ctx context.Context, name string) (*corev1.Namespace, error)

// Plugin is the plugin.
type Plugin struct {
	namespace Namespace
	whole     labels.Set            // the cluster's default selector
	allowed   map[string]labels.Set // by namespace
}

// New makes the plugin. Its configuration is podNodeSelectorPluginConfig, a map from namespaces to selectors, in which
// clusterDefaultNodeSelector is the default.
func New(conf admission.Config, namespace Namespace) (*Plugin, error) {
	var c struct {
		Selectors map[string]string `json:"podNodeSelectorPluginConfig"`
	}
	if err := conf.Decode(name, "", &c); err != nil {
		return nil, err
	}
	p := &Plugin{namespace: namespace, allowed: map[string]labels.Set{}}
	for in, text := range c.Selectors {
		set, err := labels.ConvertSelectorToLabelsMap(text)
		if err != nil {
			return nil, fmt.Errorf("configuration of the admission plugin %s: %s: %w", name, in, err)
		}
		if in == defaultForAll {
			p.whole = set
		} else {
			p.allowed[in] = set
		}
	}
	return p, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return name }

// Mutate adds the selector to a new pod.
func (p *Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	pod, want, err := p.look(ctx, a)
	if pod == nil || err != nil {
		return err
	}
	if len(want) > 0 {
		merged := maps.Clone(map[string]string(want))
		maps.Copy(merged, pod.Spec.NodeSelector)
		pod.Spec.NodeSelector = merged
	}
	return nil
}

// Validate refuses a pod that contradicts its namespace, or chooses nodes by what it may not.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, _, err := p.look(ctx, a)
	if pod == nil || err != nil {
		return err
	}
	allowed := p.allowed[a.Namespace]
	for key, value := range pod.Spec.NodeSelector {
		if has, ok := allowed[key]; len(allowed) > 0 && (!ok || has != value) {
			return admission.Forbid(a, "pod node label selector labels conflict with its namespace whitelist")
		}
	}
	return nil
}

// look returns a new pod and the selector of its namespace, which it does not contradict.
func (p *Plugin) look(ctx context.Context, a *admission.Attributes) (*corev1.Pod, labels.Set, error) {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != admission.Create || a.Subresource != "" {
		return nil, nil, nil
	}
	ns, err := p.namespace(ctx, a.Namespace)
	if err != nil {
		return nil, nil, err
	}
	want := p.whole
	if text, has := ns.Annotations[annotation]; has {
		if want, err = labels.ConvertSelectorToLabelsMap(text); err != nil {
			return nil, nil, admission.Forbid(a, "annotation %s of the namespace: %w", annotation, err)
		}
	}
	if labels.Conflicts(want, pod.Spec.NodeSelector) {
		return nil, nil, admission.Forbid(a, "pod node label selector conflicts with its namespace node label selector")
	}
	return pod, want, nil
}
