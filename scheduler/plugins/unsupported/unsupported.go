// Package unsupported refuses pods whose hard placement rules this scheduler cannot keep yet: such a pod stays pending
// with a sentence that says so, and is never placed as if the rule were not there.
package unsupported

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const name = "Unsupported"

// Plugin is the guard.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(_ *framework.State, p *framework.Pod) *framework.Status {
	what := first(p)
	if what == "" {
		return nil
	}
	return &framework.Status{
		Code: framework.Unresolvable, Plugin: name,
		Reason: fmt.Sprintf("this scheduler does not support %s yet", what),
	}
}

// first names a hard rule that cannot be kept, or "".
func first(p *framework.Pod) string {
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution"
		}
		if a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"
		}
	}
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			return "spec.topologySpreadConstraints with whenUnsatisfiable: DoNotSchedule"
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return fmt.Sprintf("volume %q, which needs a PersistentVolumeClaim", v.Name)
		}
	}
	if len(p.Spec.ResourceClaims) > 0 {
		return "spec.resourceClaims"
	}
	return ""
}
