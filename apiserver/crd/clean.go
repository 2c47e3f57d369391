package crd

import (
	"context"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/kinds/apiextensions"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
)

// lookAgain is how often the engine looks whether objects that finalizers hold are gone.
const lookAgain = time.Second

// clean deletes the objects of a definition that is to be deleted, waits until they are gone, and lets go of it. K is nil
// when its objects were never served: then there are none.
func (e *Engine) clean(ctx context.Context, d *definition, k *kind) error {
	if k != nil {
		if err := e.empty(ctx, d, k.storage); err != nil {
			return fmt.Errorf("delete the objects: %w", err)
		}
	}
	_, _, _, err := e.definitions.Update(ctx, "", d.Name, "", func(current resource.Object) (resource.Object, error) {
		now := current.(*definition)
		if now.UID == d.UID {
			now.Finalizers = slices.DeleteFunc(now.Finalizers, func(f string) bool { return f == apiextensionsv1.CustomResourceCleanupFinalizer })
		}
		return now, nil
	}, nil, false)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (e *Engine) empty(ctx context.Context, d *definition, objects *registry.Registry) error {
	for first := true; ; first = false {
		// What is marked already is marked again: that changes nothing.
		if _, err := objects.DeleteCollection(ctx, registry.Query{}, nil); err != nil {
			return err
		}
		left, err := objects.List(ctx, registry.Query{})
		if err != nil || len(left.Items) == 0 {
			return err
		}
		if first {
			text := fmt.Sprintf("CustomResource deletion is in progress: %d objects are left", len(left.Items))
			if _, err := e.change(ctx, d, func(now *definition) {
				apiextensions.SetCondition(now, apiextensionsv1.CustomResourceDefinitionCondition{
					Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionInProgress", Message: text,
				})
			}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookAgain):
		}
	}
}
