package core

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/resource"
)

// Pod is a group of containers that run together on one node.
//
// Its parts: pod_default.go fills in, pod_validate.go and its neighbours pod_container.go, pod_security.go,
// pod_schedule.go and pod_volume.go check, pod_update.go says what may change, pod_subresource.go holds binding and
// the like, pod_columns.go what kubectl prints.
var Pod = resource.Define(scheme.Types, resource.Spec[corev1.Pod]{
	Names:                    resource.Names{Version: "v1", Kind: "Pod", Plural: "pods", Short: []string{"po"}, Categories: []string{"all"}},
	Scope:                    resource.Namespaced,
	Default:                  defaultPod,
	SetStatus:                setPodStatus,
	SpecChanged:              podSpecChanged,
	Prepare:                  preparePod,
	Validate:                 validatePod,
	ValidateCreate:           validatePodCreate,
	ValidateUpdate:           validatePodUpdate,
	ValidateStatusUpdate:     validatePodStatusUpdate,
	Warnings:                 warnPod,
	GracePeriod:              podGracePeriod,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Fields:                   podFields(),
	Indexed:                  []string{"spec.nodeName"},
	Columns:                  podColumns(),
	Subresources:             podSubresources(),
})

// podSpecChanged leaves out the node: being bound to one is no new wish.
func podSpecChanged(p, old *corev1.Pod) bool {
	spec := p.Spec
	spec.NodeName = old.Spec.NodeName
	return !equality.Semantic.DeepEqual(spec, old.Spec)
}

func podFields() map[string]func(*corev1.Pod) string {
	node := func(p *corev1.Pod) string { return p.Spec.NodeName }
	return map[string]func(*corev1.Pod) string{
		"spec.nodeName":            node,
		"spec.host":                node, // its name in the first clients
		"spec.restartPolicy":       func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) },
		"spec.schedulerName":       func(p *corev1.Pod) string { return p.Spec.SchedulerName },
		"spec.serviceAccountName":  func(p *corev1.Pod) string { return p.Spec.ServiceAccountName },
		"spec.hostNetwork":         func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) },
		"status.phase":             func(p *corev1.Pod) string { return string(p.Status.Phase) },
		"status.podIP":             func(p *corev1.Pod) string { return p.Status.PodIP },
		"status.nominatedNodeName": func(p *corev1.Pod) string { return p.Status.NominatedNodeName },
	}
}

// setPodStatus keeps what a status that was written without it must not lose: the QoS class, and the generations that
// the status and its conditions were made for.
func setPodStatus(dst, src *corev1.Pod) {
	was := dst.Status
	dst.Status = *src.Status.DeepCopy()
	now := &dst.Status
	if now.QOSClass == "" {
		now.QOSClass = was.QOSClass
	}
	if now.ObservedGeneration == 0 {
		now.ObservedGeneration = was.ObservedGeneration
	}
	for i := range now.Conditions {
		c := &now.Conditions[i]
		if old := podCondition(&was, c.Type); old != nil && c.ObservedGeneration == 0 {
			c.ObservedGeneration = old.ObservedGeneration
		}
	}
}

func preparePod(_ context.Context, p, old *corev1.Pod) {
	if old != nil {
		return
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qosClass(&p.Spec)}
	if len(p.Spec.SchedulingGates) > 0 {
		setPodCondition(&p.Status, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		})
	}
	mergeLabelKeys(p)
	appArmorToFields(p)
}

// mergeLabelKeys puts the pod's own values of matchLabelKeys and mismatchLabelKeys into the selectors beside them.
func mergeLabelKeys(p *corev1.Pod) {
	merge := func(s *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) {
		for _, key := range keys {
			if value, ok := p.Labels[key]; ok && s != nil {
				s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
			}
		}
	}
	for _, term := range affinityTerms(p.Spec.Affinity) {
		merge(term.LabelSelector, term.MatchLabelKeys, metav1.LabelSelectorOpIn)
		merge(term.LabelSelector, term.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		merge(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

// affinityTerms are all terms of the affinity and anti-affinity to pods.
func affinityTerms(a *corev1.Affinity) []*corev1.PodAffinityTerm {
	var terms []*corev1.PodAffinityTerm
	add := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range required {
			terms = append(terms, &required[i])
		}
		for i := range preferred {
			terms = append(terms, &preferred[i].PodAffinityTerm)
		}
	}
	if a != nil && a.PodAffinity != nil {
		add(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a != nil && a.PodAntiAffinity != nil {
		add(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return terms
}

// podGracePeriod is what the options or the pod itself say; nothing for a pod that never ran or is done.
func podGracePeriod(p *corev1.Pod, wish *int64) int64 {
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return 0
	}
	if wish == nil {
		wish = p.Spec.TerminationGracePeriodSeconds
	}
	if wish == nil {
		return 0
	}
	if *wish < 0 {
		return 1
	}
	return *wish
}

// qosClass says how well a pod's resources are assured: Guaranteed when every container's limits of cpu and memory are
// set and equal to its requests, BestEffort when nothing is asked for, Burstable in between.
func qosClass(s *corev1.PodSpec) corev1.PodQOSClass {
	lists := []corev1.ResourceRequirements{}
	if s.Resources != nil {
		lists = append(lists, *s.Resources)
	} else {
		for _, cs := range [][]corev1.Container{s.Containers, s.InitContainers} {
			for i := range cs {
				lists = append(lists, cs[i].Resources)
			}
		}
	}
	asked, guaranteed := false, true
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, r := range lists {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := r.Requests[name], r.Limits[name]
			asked = asked || request.Sign() > 0 || limit.Sign() > 0
			guaranteed = guaranteed && limit.Sign() > 0
			addTo(requests, corev1.ResourceList{name: request})
			addTo(limits, corev1.ResourceList{name: limit})
		}
	}
	if !asked {
		return corev1.PodQOSBestEffort
	}
	for name, limit := range limits {
		request := requests[name]
		guaranteed = guaranteed && request.Cmp(limit) == 0
	}
	if guaranteed {
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func podCondition(s *corev1.PodStatus, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setPodCondition adds a condition or replaces the one of its type. The transition time stays when the status does.
func setPodCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now()
	old := podCondition(s, c.Type)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

func warnPod(p, old *corev1.Pod) []string {
	if old != nil {
		return nil // people rarely change pods by hand, and the path is hot
	}
	var warnings []string
	if msgs := validation.IsDNS1123Label(p.Name); len(msgs) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(warnings, warnPodSpec(&p.ObjectMeta, &p.Spec, nil)...)
}

// WarnPodTemplate returns what deserves a warning in a template that lies at path.
func WarnPodTemplate(t *corev1.PodTemplateSpec, path *field.Path) []string {
	return warnPodSpec(&t.ObjectMeta, &t.Spec, path)
}
