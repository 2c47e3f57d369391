package core

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

// updatable lists what an update of a pod may change.
const updatable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// validatePodUpdate allows the few changes that a running pod can follow. A pod that still waits at a scheduling gate
// may be steered further: more node selectors, a narrower node affinity.
func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := annotationUpdate(p, old)
	now, was := &p.Spec, &old.Spec
	if len(now.Containers) != len(was.Containers) {
		return append(errs, field.Forbidden(path.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(now.InitContainers) != len(was.InitContainers) {
		return append(errs, field.Forbidden(path.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, deadlineUpdate(now.ActiveDeadlineSeconds, was.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, onlyAddedTolerations(now.Tolerations, was.Tolerations, path.Child("tolerations"))...)
	for i, g := range now.SchedulingGates {
		if !slices.ContainsFunc(was.SchedulingGates, func(o corev1.PodSchedulingGate) bool { return o.Name == g.Name }) {
			errs = append(errs, field.Forbidden(path.Child("schedulingGates").Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name)))
		}
	}
	if equality.Semantic.DeepEqual(now, was) {
		return errs
	}
	same := now.DeepCopy()
	forgive(same, was)
	if len(was.SchedulingGates) > 0 {
		errs = append(errs, gatedUpdate(same, was, path)...)
	}
	if !equality.Semantic.DeepEqual(same, was) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, diff.Diff(was, same))))
	}
	return errs
}

// forgive sets what may change, and was checked, back to what it was, so that only forbidden changes are left.
func forgive(s, was *corev1.PodSpec) {
	for i := range s.Containers {
		s.Containers[i].Image = was.Containers[i].Image
	}
	for i := range s.InitContainers {
		s.InitContainers[i].Image = was.InitContainers[i].Image
	}
	s.ActiveDeadlineSeconds = was.ActiveDeadlineSeconds
	s.SchedulingGates = was.SchedulingGates
	s.Tolerations = was.Tolerations
	if deref(was.TerminationGracePeriodSeconds) < 0 && deref(s.TerminationGracePeriodSeconds) == 1 {
		s.TerminationGracePeriodSeconds = was.TerminationGracePeriodSeconds
	}
}

// deadlineUpdate lets a deadline be set or come closer.
func deadlineUpdate(now, was *int64, path *field.Path) field.ErrorList {
	switch {
	case now == nil && was != nil:
		return field.ErrorList{field.Invalid(path, now, "must not update from a positive integer to nil value")}
	case now == nil:
		return nil
	case *now < 0 || *now > math.MaxInt32:
		return field.ErrorList{field.Invalid(path, *now, validation.InclusiveRangeError(0, math.MaxInt32))}
	case was != nil && *was < *now:
		return field.ErrorList{field.Invalid(path, *now, "must be less than or equal to previous value")}
	}
	return nil
}

func onlyAddedTolerations(now, was []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, o := range was {
		kept := slices.ContainsFunc(now, func(n corev1.Toleration) bool {
			n.TolerationSeconds = o.TolerationSeconds
			return equality.Semantic.DeepEqual(n, o)
		})
		if !kept {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

// gatedUpdate checks the changes that only a gated pod may have, and sets them back as forgive does.
func gatedUpdate(s, was *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for key, value := range was.NodeSelector {
		if v, ok := s.NodeSelector[key]; !ok || v != value {
			errs = append(errs, field.Invalid(path.Child("nodeSelector"), s.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	s.NodeSelector = was.NodeSelector
	now, old := nodeAffinityOf(s), nodeAffinityOf(was)
	if equality.Semantic.DeepEqual(now, old) {
		return errs
	}
	errs = append(errs, narrowerAffinity(now, old, path.Child("affinity", "nodeAffinity", requiredRules, "nodeSelectorTerms"))...)
	switch {
	case s.Affinity == nil: // the old node affinity was not nil, and no other was beside it
		s.Affinity = &corev1.Affinity{NodeAffinity: old}
	case was.Affinity == nil && s.Affinity.PodAffinity == nil && s.Affinity.PodAntiAffinity == nil:
		s.Affinity = nil
	default:
		s.Affinity.NodeAffinity = old
	}
	return errs
}

func nodeAffinityOf(s *corev1.PodSpec) *corev1.NodeAffinity {
	if s.Affinity == nil {
		return nil
	}
	return s.Affinity.NodeAffinity
}

// narrowerAffinity lets required terms only gain requirements.
func narrowerAffinity(now, was *corev1.NodeAffinity, path *field.Path) field.ErrorList {
	terms := func(n *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
		if n == nil || n.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
		return n.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	nowTerms, wasTerms := terms(now), terms(was)
	if len(wasTerms) == 0 {
		return nil
	}
	if len(wasTerms) != len(nowTerms) {
		return field.ErrorList{field.Invalid(path, nowTerms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	begins := func(now, was []corev1.NodeSelectorRequirement) bool {
		return len(now) >= len(was) && equality.Semantic.DeepEqual(now[:len(was)], was)
	}
	var errs field.ErrorList
	for i, o := range wasTerms {
		n := nowTerms[i]
		empty := len(o.MatchExpressions) == 0 && len(o.MatchFields) == 0
		changed := len(n.MatchExpressions)+len(n.MatchFields) > 0
		// An empty term selects nothing: adding to it would widen it.
		if empty && changed || !begins(n.MatchExpressions, o.MatchExpressions) || !begins(n.MatchFields, o.MatchFields) {
			errs = append(errs, field.Invalid(path.Index(i), n, "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// annotationUpdate keeps the annotations that mean something to the node.
func annotationUpdate(p, old *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("metadata", "annotations")
	fixed := func(key string) string {
		switch {
		case strings.HasPrefix(key, appArmorKey):
			return "AppArmor annotations"
		case key == corev1.MirrorPodAnnotationKey:
			return "mirror pod annotation"
		}
		return ""
	}
	for key, was := range old.Annotations {
		if now, ok := p.Annotations[key]; (!ok || now != was) && fixed(key) != "" {
			errs = append(errs, field.Forbidden(path.Key(key), "may not remove or update "+fixed(key)))
		}
	}
	for key := range p.Annotations {
		if _, ok := old.Annotations[key]; !ok && fixed(key) != "" {
			errs = append(errs, field.Forbidden(path.Key(key), "may not add "+fixed(key)))
		}
	}
	return errs
}

// validateEphemeralUpdate allows ephemeral containers to be added, never changed.
func validateEphemeralUpdate(p, old *corev1.Pod) field.ErrorList {
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	errs := validatePod(p)
	path := field.NewPath("spec", "ephemeralContainers")
	now := map[string]*corev1.EphemeralContainer{}
	for i := range p.Spec.EphemeralContainers {
		now[p.Spec.EphemeralContainers[i].Name] = &p.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		if n := now[was.Name]; n == nil {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name)))
		} else if !equality.Semantic.DeepEqual(was, n) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(was, n))))
		}
	}
	return errs
}

// validatePodStatusUpdate checks what a node reports.
func validatePodStatusUpdate(p, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("status")
	now, was := &p.Status, &old.Status
	errs := annotationUpdate(p, old)
	for i, c := range now.Conditions {
		at := path.Child("conditions").Index(i)
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(at.Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer"))
		}
		errs = append(errs, check.QualifiedName(string(c.Type), at.Child("Type"))...)
	}
	if p.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "may not be changed directly"))
	}
	if n := now.NominatedNodeName; n != "" && n != was.NominatedNodeName {
		at := path.Child("nominatedNodeName")
		errs = append(errs, check.Subdomain(n, at)...)
		if old.Spec.NodeName != "" {
			errs = append(errs, field.Forbidden(at, "may not be set on pods that are already bound to a node"))
		}
	}
	if now.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(path.Child("observedGeneration"), now.ObservedGeneration, "must be a non-negative integer"))
	}
	errs = append(errs, check.Immutable(now.QOSClass, was.QOSClass, path.Child("qosClass"))...)
	errs = append(errs, stayDead(now.ContainerStatuses, was.ContainerStatuses, &old.Spec, old.Spec.Containers, path.Child("containerStatuses"))...)
	errs = append(errs, stayDead(now.InitContainerStatuses, was.InitContainerStatuses, &old.Spec, old.Spec.InitContainers, path.Child("initContainerStatuses"))...)
	return append(errs, statusIPs(now, path)...)
}

// stayDead keeps a container that ended for good from being reported as running again.
func stayDead(now, was []corev1.ContainerStatus, spec *corev1.PodSpec, cs []corev1.Container, path *field.Path) field.ErrorList {
	if restartsAll(spec) {
		return nil
	}
	var errs field.ErrorList
	for i, o := range was {
		died := o.State.Terminated
		n := slices.IndexFunc(now, func(s corev1.ContainerStatus) bool { return s.Name == o.Name })
		if died == nil || n < 0 || now[n].State.Terminated != nil {
			continue
		}
		c := slices.IndexFunc(cs, func(c corev1.Container) bool { return c.Name == o.Name })
		if c < 0 || !restarts(&cs[c], spec, died.ExitCode) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
		}
	}
	return errs
}

// restartsAll says that some container's end can restart them all.
func restartsAll(s *corev1.PodSpec) bool {
	found := false
	eachContainer(s, nil, func(c *corev1.Container, _ *field.Path) {
		for _, r := range c.RestartPolicyRules {
			found = found || r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		}
	})
	return found
}

// restarts says whether a container that ended with the code is started again: by its own rules, its own policy, or
// the pod's.
func restarts(c *corev1.Container, s *corev1.PodSpec, code int32) bool {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, code)
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	policy := string(s.RestartPolicy)
	if c.RestartPolicy != nil {
		policy = string(*c.RestartPolicy)
	}
	switch policy {
	case string(corev1.RestartPolicyAlways):
		return true
	case string(corev1.RestartPolicyOnFailure):
		return code != 0
	}
	return false
}

func statusIPs(s *corev1.PodStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(ips []string, at *field.Path) {
		for i, ip := range ips {
			errs = append(errs, check.IP(ip, at.Index(i))...)
		}
		if len(errs) == 0 && !onePerFamily(ips) {
			errs = append(errs, field.Invalid(at, ips, "may specify no more than one IP for each IP family"))
		}
	}
	var pod, host []string
	for _, ip := range s.PodIPs {
		pod = append(pod, ip.IP)
	}
	for _, ip := range s.HostIPs {
		host = append(host, ip.IP)
	}
	check(pod, path.Child("podIPs"))
	if at := path.Child("hostIPs"); len(host) > 0 {
		if s.HostIP != host[0] {
			errs = append(errs, field.Invalid(at.Index(0).Child("ip"), host[0], "must be equal to `hostIP`"))
		}
		check(host, at)
	}
	return errs
}
