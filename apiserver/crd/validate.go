package crd

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"hardway/apiserver/resource"
)

// validateNew checks a new object: by the schema, then, if that finds nothing that makes them meaningless, by the rules.
func (v *version) validateNew(obj resource.Object) field.ErrorList {
	u := obj.(*object)
	var errs field.ErrorList
	if v.whole != nil {
		errs = schemavalidation.ValidateCustomResource(nil, u.Object, v.whole)
	}
	errs = append(errs, v.validateScale(u)...)
	errs = append(errs, objectmeta.Validate(nil, u.Object, v.structural, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, u.Object)...)
	return v.byRules(errs, u, nil)
}

// validateChange checks a change. What was wrong before, and has not changed, is let be.
func (v *version) validateChange(obj, old resource.Object) field.ErrorList {
	u, was := obj.(*object), old.(*object)
	both := common.NewCorrelatedObject(u.Object, was.Object, &model.Structural{Structural: v.structural})
	var errs field.ErrorList
	if v.whole != nil {
		errs = schemavalidation.ValidateCustomResourceUpdate(nil, u.Object, was.Object, v.whole, schemavalidation.WithRatcheting(both))
	}
	errs = append(errs, v.validateScale(u)...)
	errs = append(errs, objectmeta.Validate(nil, u.Object, v.structural, false)...)
	if len(listtype.ValidateListSetsAndMaps(nil, v.structural, was.Object)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, u.Object)...)
	}
	return v.byRules(errs, u, was, cel.WithRatcheting(both))
}

// validateStatus checks a change of the status.
func (v *version) validateStatus(obj, old resource.Object) field.ErrorList {
	u, was := obj.(*object), old.(*object)
	both := common.NewCorrelatedObject(u.Object, was.Object, &model.Structural{Structural: v.structural})
	var errs field.ErrorList
	if status, ok := u.Object["status"]; ok && v.status != nil {
		errs = schemavalidation.ValidateCustomResourceUpdate(field.NewPath("status"), status, was.Object["status"], v.status,
			schemavalidation.WithRatcheting(both.Key("status")))
	}
	if s := v.scale(); s != nil {
		errs = append(errs, number(u, s.StatusReplicasPath)...)
	}
	return v.byRules(errs, u, was, cel.WithRatcheting(both))
}

// byRules adds what x-kubernetes-validations find. An object whose shape is wrong is not shown to them.
func (v *version) byRules(errs field.ErrorList, u, old *object, o ...cel.Option) field.ErrorList {
	if v.rules == nil {
		return errs
	}
	for _, e := range errs {
		switch e.Type { //nolint:exhaustive // the others leave the shape as it should be
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
		}
	}
	var was any
	if old != nil {
		was = old.Object
	}
	found, _ := v.rules.Validate(context.Background(), nil, v.structural, u.Object, was, celconfig.RuntimeCELCostBudget, o...)
	return append(errs, found...)
}

func (v *version) scale() *apiextensionsv1.CustomResourceSubresourceScale {
	if v.spec.Subresources == nil {
		return nil
	}
	return v.spec.Subresources.Scale
}

func (v *version) hasStatus() bool {
	return v.spec.Subresources != nil && v.spec.Subresources.Status != nil
}

func (v *version) validateScale(u *object) field.ErrorList {
	s := v.scale()
	if s == nil {
		return nil
	}
	errs := append(number(u, s.SpecReplicasPath), number(u, s.StatusReplicasPath)...)
	if p := s.LabelSelectorPath; p != nil && *p != "" {
		if text, _, err := unstructured.NestedString(u.Object, steps(*p)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*p), text, err.Error()))
		}
	}
	return errs
}

// steps are the fields of a simple path such as .spec.replicas.
func steps(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// number checks that what lies at a path, if anything does, can be a number of replicas.
func number(u *object, path string) field.ErrorList {
	n, _, err := unstructured.NestedInt64(u.Object, steps(path)...)
	at := field.NewPath(path)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(at, n, "should be a non-negative integer")}
	case n > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32))}
	}
	return nil
}

// warnings tell of new finalizers that others could choose as well.
func warnings(obj, old resource.Object) []string {
	var out []string
	for _, f := range obj.GetFinalizers() {
		if old != nil && slices.Contains(old.GetFinalizers(), f) {
			continue
		}
		for _, msg := range validation.IsQualifiedName(f) {
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: %s", f, msg))
		}
		if strings.Contains(f, "/") || slices.Contains([]string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, "kubernetes"}, f) {
			continue
		}
		prefer := "prefer a domain-qualified finalizer name"
		if strings.Contains(f, ".") {
			prefer += " including a path (/)"
		}
		out = append(out, fmt.Sprintf("metadata.finalizers: %q: %s to avoid accidental conflicts with other finalizer writers", f, prefer))
	}
	return out
}
