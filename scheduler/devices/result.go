package devices

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// result writes down what was chosen for a claim.
func (s *search) result(c int) (out resourcev1.AllocationResult) {
	for _, ch := range s.chosen[c] {
		r := resourcev1.DeviceRequestAllocationResult{
			Request: ch.by.name, Driver: ch.id.Driver, Pool: ch.id.Pool, Device: ch.id.Name, Tolerations: ch.by.tolerates,
			BindingConditions: ch.BindingConditions, BindingFailureConditions: ch.BindingFailureConditions,
		}
		if ch.by.admin {
			r.AdminAccess = &ch.by.admin
		}
		if shareable(ch.device) {
			id := uuid.NewUUID()
			r.ShareID = &id
			if len(ch.draws) > 0 {
				r.ConsumedCapacity = ch.draws
			}
		}
		out.Devices.Results = append(out.Devices.Results, r)
	}
	out.Devices.Config = s.configuration(c)
	out.NodeSelector = nodesFor(s.chosen[c], s.node.Name)
	return out
}

// configuration is that of the classes, once each, and then the claim's own, as far as it is for what was chosen.
func (s *search) configuration(c int) (out []resourcev1.DeviceAllocationConfiguration) {
	at := map[string][2]int{} // of a class, in out
	for _, w := range s.wants[c] {
		a := w.alternatives[w.chosen]
		if known, ok := at[a.class.Name]; ok {
			for i := known[0]; i < known[1]; i++ {
				out[i].Requests = append(out[i].Requests, a.name)
			}
			continue
		}
		first := len(out)
		for i := range a.class.Spec.Config {
			out = append(out, resourcev1.DeviceAllocationConfiguration{
				Source: resourcev1.AllocationConfigSourceClass, Requests: []string{a.name}, DeviceConfiguration: a.class.Spec.Config[i].DeviceConfiguration,
			})
		}
		at[a.class.Name] = [2]int{first, len(out)}
	}
	for _, config := range s.claims[c].Spec.Devices.Config {
		own := resourcev1.DeviceAllocationConfiguration{Source: resourcev1.AllocationConfigSourceClaim, Requests: config.Requests, DeviceConfiguration: config.DeviceConfiguration}
		if len(config.Requests) == 0 {
			out = append(out, own)
			continue
		}
		for i, w := range s.wants[c] {
			if slices.Contains(config.Requests, s.claims[c].Spec.Devices.Requests[i].Name) || slices.Contains(config.Requests, w.alternatives[w.chosen].name) {
				out = append(out, own)
			}
		}
	}
	return out
}

// nodesFor is from which nodes all devices can be reached: one, those that all selectors select, or every node (nil).
func nodesFor(chosen []choice, node string) *corev1.NodeSelector {
	term := corev1.NodeSelectorTerm{}
	for _, ch := range chosen {
		if ch.where.node != "" || ch.BindsToNode != nil && *ch.BindsToNode {
			return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}
		}
		selector := ch.slice.Spec.NodeSelector
		if ch.slice.perDevice() {
			selector = ch.NodeSelector
		}
		if selector != nil && len(selector.NodeSelectorTerms) > 0 { // validation lets one term through
			term.MatchFields = union(term.MatchFields, selector.NodeSelectorTerms[0].MatchFields)
			term.MatchExpressions = union(term.MatchExpressions, selector.NodeSelectorTerms[0].MatchExpressions)
		}
	}
	if len(term.MatchFields)+len(term.MatchExpressions) == 0 {
		return nil
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}
}

func union(all, more []corev1.NodeSelectorRequirement) []corev1.NodeSelectorRequirement {
	for _, r := range more {
		if !slices.ContainsFunc(all, func(has corev1.NodeSelectorRequirement) bool { return equality.Semantic.DeepEqual(has, r) }) {
			all = append(all, r)
		}
	}
	return all
}
