// Package alwayspullimages makes every container pull its image anew, so that a private image on a node is no use to those
// who may not pull it.
package alwayspullimages

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/admission"
)

// Plugin is the plugin.
type Plugin struct{}

// Name is upstream's.
func (Plugin) Name() string { return "AlwaysPullImages" }

// Mutate sets the pull policy of all images of a pod that is new or has new ones.
func (Plugin) Mutate(_ context.Context, a *admission.Attributes) error {
	if pod := concerned(a); pod != nil {
		each(pod, func(_ *field.Path, _ string, policy *corev1.PullPolicy) { *policy = corev1.PullAlways })
	}
	return nil
}

// Validate makes sure that nothing after Mutate has changed it.
func (Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	pod := concerned(a)
	if pod == nil {
		return nil
	}
	var errs field.ErrorList
	each(pod, func(at *field.Path, _ string, policy *corev1.PullPolicy) {
		if *policy != corev1.PullAlways {
			errs = append(errs, field.NotSupported(at, *policy, []corev1.PullPolicy{corev1.PullAlways}))
		}
	})
	if len(errs) > 0 {
		return admission.Forbid(a, "%w", errs.ToAggregate())
	}
	return nil
}

// concerned is the pod of a write that brings images, else nil.
func concerned(a *admission.Attributes) *corev1.Pod {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Subresource != "" && a.Subresource != "ephemeralcontainers" {
		return nil
	}
	old, _ := a.Old.(*corev1.Pod)
	if old == nil {
		return pod
	}
	var had []string
	each(old, func(_ *field.Path, image string, _ *corev1.PullPolicy) { had = append(had, image) })
	brings := false
	each(pod, func(_ *field.Path, image string, _ *corev1.PullPolicy) {
		brings = brings || !slices.Contains(had, image)
	})
	if !brings {
		return nil
	}
	return pod
}

// each calls visit for every image of a pod, with the place of its pull policy.
func each(pod *corev1.Pod, visit func(at *field.Path, image string, policy *corev1.PullPolicy)) {
	spec, at := &pod.Spec, field.NewPath("spec")
	for i := range spec.InitContainers {
		visit(at.Child("initContainers").Index(i).Child("imagePullPolicy"), spec.InitContainers[i].Image, &spec.InitContainers[i].ImagePullPolicy)
	}
	for i := range spec.Containers {
		visit(at.Child("containers").Index(i).Child("imagePullPolicy"), spec.Containers[i].Image, &spec.Containers[i].ImagePullPolicy)
	}
	for i := range spec.EphemeralContainers {
		visit(at.Child("ephemeralContainers").Index(i).Child("imagePullPolicy"), spec.EphemeralContainers[i].Image, &spec.EphemeralContainers[i].ImagePullPolicy)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			visit(at.Child("volumes").Index(i).Child("image", "pullPolicy"), v.Reference, &v.PullPolicy)
		}
	}
}
