package core

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/resource"
)

var pods = schema.GroupResource{Resource: "pods"}

func podSubresources() []resource.Subresource {
	v1 := corev1.SchemeGroupVersion
	return []resource.Subresource{
		{
			Name: "binding", Kind: v1.WithKind("Binding"), Verbs: []string{"create"},
			New: func() runtime.Object { return &corev1.Binding{} }, Write: bindPod,
			Validate: func(resource.Object, resource.Object) field.ErrorList { return nil },
		},
		{
			Name: "eviction", Kind: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"},
			New: func() runtime.Object { return &policyv1.Eviction{} }, Write: evictPod, Delete: deleteEvicted,
			Validate: func(resource.Object, resource.Object) field.ErrorList { return nil },
		},
		{
			Name: "ephemeralcontainers", Kind: v1.WithKind("Pod"), Verbs: []string{"get", "patch", "update"},
			New:   func() runtime.Object { return &corev1.Pod{} },
			Read:  func(parent resource.Object) (runtime.Object, error) { return parent, nil },
			Write: setEphemeralContainers,
			Validate: func(obj, old resource.Object) field.ErrorList {
				return validateEphemeralUpdate(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
		},
		{
			Name: "resize", Kind: v1.WithKind("Pod"), Verbs: []string{"get", "patch", "update"},
			New:      func() runtime.Object { return &corev1.Pod{} },
			Read:     func(parent resource.Object) (runtime.Object, error) { return parent, nil },
			Write:    resizePod,
			Validate: validateResize,
		},
		{Name: "log", Kind: v1.WithKind("Pod"), Verbs: []string{"get"}},
		{Name: "exec", Kind: v1.WithKind("PodExecOptions"), Verbs: []string{"create", "get"}},
		{Name: "attach", Kind: v1.WithKind("PodAttachOptions"), Verbs: []string{"create", "get"}},
		{Name: "portforward", Kind: v1.WithKind("PodPortForwardOptions"), Verbs: []string{"create", "get"}},
		{Name: "proxy", Kind: v1.WithKind("PodProxyOptions"), Verbs: proxyVerbs},
	}
}

// bindPod gives a pod its node: once, and never to a pod that goes away or is still gated. The uid and the
// resourceVersion of the Binding, where it has them, must be the pod's.
func bindPod(_ context.Context, parent resource.Object, sent runtime.Object) error {
	p, b := parent.(*corev1.Pod), sent.(*corev1.Binding)
	if b.Name != "" && b.Name != p.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	var errs field.ErrorList
	if k := b.Target.Kind; k != "" && k != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), k, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(field.NewPath("target", "name"), ""))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), p.Name, errs)
	}
	conflict := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, p.Name, fmt.Errorf(format, args...))
	}
	switch {
	case b.UID != "" && b.UID != p.UID:
		return apierrors.NewConflict(pods, p.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, p.UID))
	case b.ResourceVersion != "" && b.ResourceVersion != p.ResourceVersion:
		return apierrors.NewConflict(pods, p.Name, fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", b.ResourceVersion, p.ResourceVersion))
	case p.DeletionTimestamp != nil:
		return conflict("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		return conflict("pod %v is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) > 0:
		return conflict("pod %v has non-empty .spec.schedulingGates", p.Name)
	}
	p.Spec.NodeName = b.Target.Name
	p.Status.NominatedNodeName = ""
	p.Annotations = merged(p.Annotations, b.Annotations)
	p.Labels = merged(p.Labels, b.Labels)
	setPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	return nil
}

func merged(into, from map[string]string) map[string]string {
	if len(from) == 0 {
		return into
	}
	if into == nil {
		into = map[string]string{}
	}
	maps.Copy(into, from)
	return into
}

// evictPod notes on the pod why it goes, before it is deleted. The disruption budgets have been asked.
func evictPod(_ context.Context, parent resource.Object, sent runtime.Object) error {
	p, e := parent.(*corev1.Pod), sent.(*policyv1.Eviction)
	if e.Name != "" && e.Name != p.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if o := e.DeleteOptions; o != nil && o.Preconditions != nil {
		if uid := o.Preconditions.UID; uid != nil && *uid != "" && *uid != p.UID {
			return apierrors.NewConflict(pods, p.Name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *uid, p.UID))
		}
		if rv := o.Preconditions.ResourceVersion; rv != nil && *rv != "" && *rv != p.ResourceVersion {
			return apierrors.NewConflict(pods, p.Name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *rv, p.ResourceVersion))
		}
	}
	setPodCondition(&p.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
		Message: "Eviction API: evicting",
	})
	return nil
}

// deleteEvicted takes the options of the Eviction. Its resourceVersion was checked by evictPod, which has changed it
// since.
func deleteEvicted(parent resource.Object, sent runtime.Object) (*metav1.DeleteOptions, error) {
	o := sent.(*policyv1.Eviction).DeleteOptions.DeepCopy()
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	uid := parent.GetUID()
	o.Preconditions = &metav1.Preconditions{UID: &uid}
	return o, nil
}

func setEphemeralContainers(_ context.Context, parent resource.Object, sent runtime.Object) error {
	parent.(*corev1.Pod).Spec.EphemeralContainers = sent.(*corev1.Pod).Spec.EphemeralContainers
	return nil
}
