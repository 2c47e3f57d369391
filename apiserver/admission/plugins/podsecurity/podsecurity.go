// Package podsecurity holds pods to the Pod Security Standards: their namespace's labels say which of the levels
// privileged, baseline and restricted is enforced, which is noted in the audit log, and of which the user is warned. What
// the levels ask is in the published library k8s.io/pod-security-admission/policy.
//
// Objects that make pods are never refused, only warned about and noted, so that the person who writes them learns of it.
// Namespaces whose labels become stricter warn about the pods that are there already.
package podsecurity

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"hardway/apiserver/admission"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

const name = "PodSecurity"

// Objects looks things up. The error of Namespace is a Status.
type Objects interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error)
}

// Plugin is the plugin.
type Plugin struct {
	objects   Objects
	exempt    Exemptions
	defaults  api.Policy
	evaluator policy.Evaluator
}

// New makes the plugin with its part of the configuration.
func New(conf admission.Config, objects Objects) (*Plugin, error) {
	c, defaults, err := readConfig(conf)
	if err != nil {
		return nil, err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("pod security checks: %w", err)
	}
	return &Plugin{objects: objects, exempt: c.Exemptions, defaults: defaults, evaluator: evaluator}, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return name }

// passive are the subresources of pods through which no container is changed.
var passive = []string{"binding", "eviction", "status", "exec", "attach", "portforward", "log", "proxy"}

// Validate holds the object of a write to its namespace's levels.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	switch obj := a.Object.(type) {
	case *corev1.Namespace:
		if a.Subresource == "" {
			return p.namespace(ctx, a, obj)
		}
	case *corev1.Pod:
		old, _ := a.Old.(*corev1.Pod)
		if !slices.Contains(passive, a.Subresource) && (old == nil || changed(obj, old)) {
			return p.pod(ctx, a, &corev1.PodTemplateSpec{ObjectMeta: obj.ObjectMeta, Spec: obj.Spec}, true)
		}
	default:
		if template := templateOf(a.Object); template != nil && a.Subresource == "" {
			return p.pod(ctx, a, template, false)
		}
	}
	return nil
}

// templateOf returns what an object makes pods from; nil for objects that make none.
func templateOf(obj resource.Object) *corev1.PodTemplateSpec {
	switch o := obj.(type) {
	case *corev1.PodTemplate:
		return &o.Template
	case *corev1.ReplicationController:
		return o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	}
	return nil
}

// changed says whether a pod has a container or an image that it did not have: nothing else that a level asks about can
// be changed.
func changed(now, old *corev1.Pod) bool {
	was := map[string]string{}
	images(old, func(name, image string) { was[name] = image })
	different := false
	images(now, func(name, image string) {
		has, ok := was[name]
		different = different || !ok || has != image
	})
	return different
}

func images(pod *corev1.Pod, each func(name, image string)) {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		each(c.Name, c.Image)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		each(c.Name, c.Image)
	}
}

// pod checks one pod, or what pods are made from, which is not refused.
func (p *Plugin) pod(ctx context.Context, a *admission.Attributes, t *corev1.PodTemplateSpec, enforce bool) error {
	user := request.User(ctx)
	switch {
	case slices.Contains(p.exempt.Namespaces, a.Namespace):
		annotate(ctx, api.ExemptionReasonAnnotationKey, "namespace")
		return nil
	case user != nil && slices.Contains(p.exempt.Usernames, user.Name):
		annotate(ctx, api.ExemptionReasonAnnotationKey, "user")
		return nil
	case t.Spec.RuntimeClassName != nil && slices.Contains(p.exempt.RuntimeClasses, *t.Spec.RuntimeClassName):
		annotate(ctx, api.ExemptionReasonAnnotationKey, "runtimeClass")
		return nil
	}
	levels, err := p.levels(ctx, a.Namespace)
	if err != nil {
		if !enforce {
			annotate(ctx, "error", err.Error())
			return nil
		}
		return apierrors.NewInternalError(err)
	}
	check := p.checker(t)
	if enforce {
		annotate(ctx, api.EnforcedPolicyAnnotationKey, levels.Enforce.String())
		if why := check(levels.Enforce); why != "" {
			return admission.Forbid(a, "violates PodSecurity %q: %s", levels.Enforce.String(), why)
		}
	}
	if why := check(levels.Audit); why != "" {
		annotate(ctx, api.AuditViolationsAnnotationKey, fmt.Sprintf("would violate PodSecurity %q: %s", levels.Audit.String(), why))
	}
	if why := check(levels.Warn); why != "" {
		request.Warn(ctx, fmt.Sprintf("would violate PodSecurity %q: %s", levels.Warn.String(), why))
	}
	return nil
}

// levels are those of a namespace. Labels that cannot be read mean the strictest level to enforce, and none else.
func (p *Plugin) levels(ctx context.Context, namespace string) (api.Policy, error) {
	ns, err := p.objects.Namespace(ctx, namespace)
	if err != nil {
		return api.Policy{}, fmt.Errorf("failed to lookup namespace %q: %w", namespace, err)
	}
	levels, errs := api.PolicyToEvaluate(ns.Labels, p.defaults)
	if len(errs) > 0 {
		annotate(ctx, "error", fmt.Sprintf("Failed to parse policy: %v", errs.ToAggregate()))
	}
	return levels, nil
}

// checker returns a function that says what a level objects to, and asks the library once for each level.
func (p *Plugin) checker(t *corev1.PodTemplateSpec) func(api.LevelVersion) string {
	known := map[api.LevelVersion]string{}
	return func(level api.LevelVersion) string {
		why, asked := known[level]
		if !asked {
			result := policy.AggregateCheckResults(p.evaluator.EvaluatePod(level, &t.ObjectMeta, &t.Spec))
			if !result.Allowed {
				why = result.ForbiddenDetail()
			}
			known[level] = why
		}
		return why
	}
}

// annotate writes a fact for the audit log.
func annotate(ctx context.Context, key, value string) {
	request.Annotate(ctx, api.AuditAnnotationPrefix+key, value)
}
