package apps

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/resource"
)

// writeScale takes over the number of replicas. The Scale's uid and resourceVersion, where it has them, must be the
// parent's.
func writeScale(set func(resource.Object, int32)) func(context.Context, resource.Object, runtime.Object) error {
	return func(_ context.Context, parent resource.Object, sent runtime.Object) error {
		s := sent.(*autoscalingv1.Scale)
		gk := autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind()
		if errs := check.NonNegative(s.Spec.Replicas, field.NewPath("spec", "replicas")); len(errs) > 0 {
			return apierrors.NewInvalid(gk, parent.GetName(), errs)
		}
		scales := schema.GroupResource{Group: group, Resource: "scale"}
		if s.UID != "" && s.UID != parent.GetUID() {
			return apierrors.NewConflict(scales, parent.GetName(),
				fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", s.UID, parent.GetUID()))
		}
		if s.ResourceVersion != "" && s.ResourceVersion != parent.GetResourceVersion() {
			return apierrors.NewConflict(scales, parent.GetName(),
				fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again"))
		}
		set(parent, s.Spec.Replicas)
		return nil
	}
}
