package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/resource"
)

// resizePod takes over what containers ask for, and how they follow a change of it; nothing else.
func resizePod(_ context.Context, parent resource.Object, sent runtime.Object) error {
	p, ok := parent.(*corev1.Pod)
	wish, is := sent.(*corev1.Pod)
	if !ok || !is {
		return apierrors.NewBadRequest("only a Pod can be resized, and by a Pod")
	}
	if len(wish.Spec.Containers) != len(p.Spec.Containers) || len(wish.Spec.InitContainers) != len(p.Spec.InitContainers) {
		p.Spec.Containers, p.Spec.InitContainers = wish.Spec.Containers, wish.Spec.InitContainers
		return nil // refused by validateResize
	}
	for _, lists := range [][2][]corev1.Container{{p.Spec.Containers, wish.Spec.Containers}, {p.Spec.InitContainers, wish.Spec.InitContainers}} {
		for i := range lists[0] {
			lists[0][i].Name = lists[1][i].Name
			lists[0][i].Resources, lists[0][i].ResizePolicy = lists[1][i].Resources, lists[1][i].ResizePolicy
		}
	}
	p.Spec.Resources = wish.Spec.Resources
	return nil
}

// validateResize lets cpu and memory change, within the pod's class of service.
func validateResize(obj, was resource.Object) field.ErrorList {
	p, old := obj.(*corev1.Pod), was.(*corev1.Pod) //nolint:errcheck // the registry of pods holds pods
	path := field.NewPath("spec")
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	errs := validatePod(p)
	if qosClass(&p.Spec) != qosClass(&old.Spec) {
		errs = append(errs, field.Invalid(path, p.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	for _, l := range []struct {
		name     string
		now, was []corev1.Container
	}{{"containers", p.Spec.Containers, old.Spec.Containers}, {"initContainers", p.Spec.InitContainers, old.Spec.InitContainers}} {
		errs = append(errs, resizeList(l.now, l.was, path, path.Child(l.name))...)
	}
	return errs
}

func resizeList(now, was []corev1.Container, spec, at *field.Path) field.ErrorList {
	if len(now) != len(was) {
		return field.ErrorList{field.Forbidden(at, "containers may not be added or removed on resize")}
	}
	var errs field.ErrorList
	for i := range now {
		if now[i].Name != was[i].Name {
			return append(errs, field.Forbidden(at, "containers may not be renamed or reordered on resize"))
		}
		path := at.Index(i).Child("resources")
		rest := now[i].Resources.DeepCopy()
		errs = append(errs, resizable(rest.Requests, was[i].Resources.Requests, path.Child("requests"), "resource requests cannot be removed")...)
		errs = append(errs, resizable(rest.Limits, was[i].Resources.Limits, path.Child("limits"), "resource limits cannot be removed")...)
		if !equality.Semantic.DeepEqual(dropComputed(*rest), dropComputed(was[i].Resources)) {
			errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable"))
		}
	}
	return errs
}

func resizable(now, was corev1.ResourceList, at *field.Path, removed string) field.ErrorList {
	var errs field.ErrorList
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		_, has := now[name]
		if _, had := was[name]; had && !has {
			errs = append(errs, field.Forbidden(at, removed))
		}
	}
	return errs
}

// dropComputed is what is left when cpu and memory are taken away.
func dropComputed(r corev1.ResourceRequirements) corev1.ResourceRequirements {
	out := *r.DeepCopy()
	for _, list := range []corev1.ResourceList{out.Requests, out.Limits} {
		delete(list, corev1.ResourceCPU)
		delete(list, corev1.ResourceMemory)
	}
	if len(out.Requests) == 0 {
		out.Requests = nil
	}
	if len(out.Limits) == 0 {
		out.Limits = nil
	}
	return out
}
