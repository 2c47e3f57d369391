// Package apiextensions declares CustomResourceDefinitions: kinds that are declared at run time. What they declare is
// served by package crd.
package apiextensions

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// CustomResourceDefinition declares a kind: its names, its versions with their schemas, and how they convert.
var CustomResourceDefinition = resource.Define(scheme.Types, resource.Spec[apiextensionsv1.CustomResourceDefinition]{
	Names: resource.Names{
		Group: apiextensionsv1.GroupName, Version: "v1", Kind: "CustomResourceDefinition", Plural: "customresourcedefinitions",
		Short: []string{"crd", "crds"}, Categories: []string{"api-extensions"},
	},
	Scope:      resource.Cluster,
	StorageKey: "apiextensions.k8s.io/customresourcedefinitions",
	Default:    apiextensionsv1.SetObjectDefaults_CustomResourceDefinition,
	SetStatus:  func(dst, src *apiextensionsv1.CustomResourceDefinition) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(d, old *apiextensionsv1.CustomResourceDefinition) bool {
		return !equality.Semantic.DeepEqual(d.Spec, old.Spec)
	},
	Prepare:        func(_ context.Context, d, _ *apiextensionsv1.CustomResourceDefinition) { noteStored(d) },
	ValidateCreate: func(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList { return validate(d, nil) },
	ValidateUpdate: validate,
	ValidateStatusUpdate: func(d, _ *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
		return validateNames(&d.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))
	},
	OnDelete: keepUntilEmpty,
	Formerly: []resource.Version{{
		Names: resource.Names{Group: apiextensionsv1.GroupName, Version: "v1beta1", Kind: "CustomResourceDefinition"},
		New:   func() runtime.Object { return &apiextensionsv1beta1.CustomResourceDefinition{} }, ToStorage: fromBeta,
	}},
})

// fromBeta reads the version in which upstream stores definitions to this day.
func fromBeta(in runtime.Object) (resource.Object, error) {
	beta, ok := in.(*apiextensionsv1beta1.CustomResourceDefinition)
	if !ok {
		return nil, fmt.Errorf("%T is no CustomResourceDefinition of v1beta1", in)
	}
	apiextensionsv1beta1.SetObjectDefaults_CustomResourceDefinition(beta)
	var between apiextensions.CustomResourceDefinition
	if err := apiextensionsv1beta1.Convert_v1beta1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(beta, &between, nil); err != nil {
		return nil, err
	}
	out := &apiextensionsv1.CustomResourceDefinition{}
	return out, apiextensionsv1.Convert_apiextensions_CustomResourceDefinition_To_v1_CustomResourceDefinition(&between, out, nil)
}

// noteStored remembers that objects may be stored in the version that is now the storage version.
func noteStored(d *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range d.Spec.Versions {
		if v.Storage && !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(d.Status.StoredVersions, v.Name)
			return
		}
	}
}

// keepUntilEmpty lets a definition that is to be deleted live until its objects are gone.
func keepUntilEmpty(d *apiextensionsv1.CustomResourceDefinition) (keep bool) {
	if d.DeletionTimestamp != nil {
		return false // whoever holds it now is in its finalizers
	}
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	SetCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue,
		Reason: "InstanceDeletionPending", Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
	})
	return true
}

// SetCondition puts a condition in the place of the one of its type; the time of the last transition stays when the
// status does.
func SetCondition(d *apiextensionsv1.CustomResourceDefinition, c apiextensionsv1.CustomResourceDefinitionCondition) {
	c.LastTransitionTime = show.Now()
	i := slices.IndexFunc(d.Status.Conditions, func(o apiextensionsv1.CustomResourceDefinitionCondition) bool { return o.Type == c.Type })
	if i < 0 {
		d.Status.Conditions = append(d.Status.Conditions, c)
		return
	}
	if d.Status.Conditions[i].Status == c.Status {
		c.LastTransitionTime = d.Status.Conditions[i].LastTransitionTime
	}
	d.Status.Conditions[i] = c
}

// Condition finds a condition by its type; nil: there is none.
func Condition(d *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType) *apiextensionsv1.CustomResourceDefinitionCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == t {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

// True says that a condition is true.
func True(d *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	c := Condition(d, t)
	return c != nil && c.Status == apiextensionsv1.ConditionTrue
}

// Established is when objects of the kind are served.
func Established(d *apiextensionsv1.CustomResourceDefinition) bool {
	return True(d, apiextensionsv1.Established)
}
