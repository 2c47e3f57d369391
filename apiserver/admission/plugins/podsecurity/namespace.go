package podsecurity

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"hardway/apiserver/admission"
	"hardway/apiserver/request"
)

// Bounds of the look at the pods that a namespace has when its labels change.
const (
	maxPods = 3000
	maxTime = time.Second
)

// namespace checks the labels of a namespace, and warns about pods that are there and would be refused now.
func (p *Plugin) namespace(ctx context.Context, a *admission.Attributes, ns *corev1.Namespace) error {
	now, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	old, isUpdate := a.Old.(*corev1.Namespace)
	var was api.Policy
	if isUpdate {
		oldErrs := errs
		was, oldErrs = api.PolicyToEvaluate(old.Labels, p.defaults)
		if len(oldErrs) > 0 && reflect.DeepEqual(errs, oldErrs) {
			errs = nil // they were wrong before
		}
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(a.Kind.GVK().GroupKind(), ns.Name, errs)
	}
	if isUpdate && !stricter(now.Enforce, was.Enforce) {
		return nil
	}
	if slices.Contains(p.exempt.Namespaces, ns.Name) {
		request.Warn(ctx, p.pointless(ns, now))
		return nil
	}
	if isUpdate {
		for _, text := range p.violations(ctx, ns.Name, now.Enforce) {
			request.Warn(ctx, text)
		}
	}
	return nil
}

// stricter says whether a level may refuse what another let through.
func stricter(now, was api.LevelVersion) bool {
	switch {
	case now == was, now.Level == api.LevelPrivileged:
		return false
	case now.Version == was.Version:
		return api.CompareLevels(now.Level, was.Level) > 0
	}
	return true
}

// pointless says that the labels of an exempt namespace mean nothing.
func (p *Plugin) pointless(ns *corev1.Namespace, levels api.Policy) string {
	if levels.FullyPrivileged() || levels.Equivalent(&p.defaults) {
		return ""
	}
	var said []string
	for _, mode := range []struct {
		name, level, version string
		is                   api.LevelVersion
	}{
		{"enforce", api.EnforceLevelLabel, api.EnforceVersionLabel, levels.Enforce},
		{"audit", api.AuditLevelLabel, api.AuditVersionLabel, levels.Audit},
		{"warn", api.WarnLevelLabel, api.WarnVersionLabel, levels.Warn},
	} {
		_, hasLevel := ns.Labels[mode.level]
		_, hasVersion := ns.Labels[mode.version]
		if mode.is.Level != api.LevelPrivileged && (hasLevel || hasVersion) {
			said = append(said, mode.name+"="+mode.is.String())
		}
	}
	return fmt.Sprintf("namespace %q is exempt from Pod Security, and the policy (%s) will be ignored", ns.Name, strings.Join(said, ", "))
}

// violation counts the pods that a level objects to for the same reasons.
type violation struct {
	reasons string
	first   string // the first of their names
	count   int
}

func (v violation) String() string {
	switch v.count {
	case 1:
		return v.first + ": " + v.reasons
	case 2:
		return v.first + " (and 1 other pod): " + v.reasons
	}
	return fmt.Sprintf("%s (and %d other pods): %s", v.first, v.count-1, v.reasons)
}

// violations says which pods of a namespace a level would refuse. It looks at so many pods, and for so long, as is fair
// to the person who waits; of the pods of one controller first at one.
func (p *Plugin) violations(ctx context.Context, namespace string, level api.LevelVersion) []string {
	limit := maxTime
	if end, has := ctx.Deadline(); has {
		limit = min(limit, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pods, err := p.objects.Pods(ctx, namespace)
	if err != nil {
		return []string{"failed to list pods while checking new PodSecurity enforce level"}
	}
	pods = p.inOrder(pods)
	looked := 0
	by := map[string]*violation{}
	for _, pod := range pods[:min(len(pods), maxPods)] {
		looked++
		result := policy.AggregateCheckResults(p.evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
		if !result.Allowed {
			reasons := result.ForbiddenReason()
			v := by[reasons]
			if v == nil {
				v = &violation{reasons: reasons, first: pod.Name}
				by[reasons] = v
			}
			v.first, v.count = min(v.first, pod.Name), v.count+1
		}
		if ctx.Err() != nil {
			break
		}
	}
	var out, details []string
	if looked < len(pods) {
		out = append(out, fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", looked, len(pods)))
	}
	for _, v := range by {
		details = append(details, v.String())
	}
	slices.Sort(details)
	if len(details) > 0 {
		out = append(out, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, level.String()))
	}
	return append(out, details...)
}

// inOrder leaves out exempt pods, and puts those behind of whose controller there is one already.
func (p *Plugin) inOrder(pods []*corev1.Pod) []*corev1.Pod {
	var first, rest []*corev1.Pod
	seen := map[types.UID]bool{}
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		switch {
		case pod.Spec.RuntimeClassName != nil && slices.Contains(p.exempt.RuntimeClasses, *pod.Spec.RuntimeClassName):
		case owner != nil && seen[owner.UID]:
			rest = append(rest, pod)
		default:
			first = append(first, pod)
			if owner != nil {
				seen[owner.UID] = true
			}
		}
	}
	return append(first, rest...)
}
