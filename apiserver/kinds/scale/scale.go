// Package scale is the subresource of that name: one view of everything that has a number of replicas, by which
// autoscalers and `kubectl scale` set that number alone.
package scale

import (
	"context"
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/resource"
)

// View is how a kind is seen through its scale subresource.
type View struct {
	Replicas *int32 // wished
	Current  int32
	Selector *metav1.LabelSelector
}

// Subresource makes the subresource of a kind of a group from how the kind is seen and how its number is set.
func Subresource(group string, of func(resource.Object) View, set func(resource.Object, int32)) resource.Subresource {
	return resource.Subresource{
		Name:  "scale",
		Kind:  autoscalingv1.SchemeGroupVersion.WithKind("Scale"),
		Verbs: []string{"get", "patch", "update"},
		New:   func() runtime.Object { return &autoscalingv1.Scale{} },
		Read: func(parent resource.Object) (runtime.Object, error) {
			v := of(parent)
			selector, err := metav1.LabelSelectorAsSelector(v.Selector)
			if err != nil {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("selector of %s: %v", parent.GetName(), err))
			}
			out := &autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{
					Name: parent.GetName(), Namespace: parent.GetNamespace(), UID: parent.GetUID(),
					ResourceVersion: parent.GetResourceVersion(), CreationTimestamp: parent.GetCreationTimestamp(),
				},
				Status: autoscalingv1.ScaleStatus{Replicas: v.Current, Selector: selector.String()},
			}
			if v.Replicas != nil {
				out.Spec.Replicas = *v.Replicas
			}
			return out, nil
		},
		Write: write(group, set),
	}
}

// write takes over the number of replicas. The Scale's uid and resourceVersion, where it has them, must be the
// parent's.
func write(group string, set func(resource.Object, int32)) func(context.Context, resource.Object, runtime.Object) error {
	return func(_ context.Context, parent resource.Object, sent runtime.Object) error {
		s, ok := sent.(*autoscalingv1.Scale)
		if !ok {
			return apierrors.NewBadRequest(fmt.Sprintf("wanted a Scale, got a %T", sent))
		}
		gk := autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind()
		if errs := check.NonNegative(s.Spec.Replicas, field.NewPath("spec", "replicas")); len(errs) > 0 {
			return apierrors.NewInvalid(gk, parent.GetName(), errs)
		}
		scales := schema.GroupResource{Group: group, Resource: "scale"}
		if s.UID != "" && s.UID != parent.GetUID() {
			return apierrors.NewConflict(scales, parent.GetName(),
				fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", s.UID, parent.GetUID())) //nolint:staticcheck // upstream's words
		}
		if s.ResourceVersion != "" && s.ResourceVersion != parent.GetResourceVersion() {
			return apierrors.NewConflict(scales, parent.GetName(),
				errors.New("the object has been modified; please apply your changes to the latest version and try again"))
		}
		set(parent, s.Spec.Replicas)
		return nil
	}
}
