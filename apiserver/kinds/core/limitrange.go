package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	kind "hardway/apiserver/resource"
)

// LimitRange bounds what one pod, container or claim of a namespace may ask for, and says what it gets when it asks for
// nothing.
var LimitRange = kind.Define(scheme.Types, kind.Spec[corev1.LimitRange]{
	Names:                    kind.Names{Version: "v1", Kind: "LimitRange", Plural: "limitranges", Short: []string{"limits"}},
	Scope:                    kind.Namespaced,
	Default:                  defaultLimitRange,
	Validate:                 validateLimitRange,
	AllowUnconditionalUpdate: true,
})

func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			// What is missing follows from its neighbour: the default limit from the maximum, the default request from
			// the default limit, or else from the minimum.
			item.Default = adding(item.Default, item.Max)
			item.DefaultRequest = adding(item.DefaultRequest, item.Default)
			item.DefaultRequest = adding(item.DefaultRequest, item.Min)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundToMilli(list)
		}
	}
}

// adding puts into a list what it lacks of another.
func adding(into, from corev1.ResourceList) corev1.ResourceList {
	if into == nil {
		into = corev1.ResourceList{}
	}
	for name, q := range from {
		if _, has := into[name]; !has {
			into[name] = q.DeepCopy()
		}
	}
	return into
}

var limitTypes = []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	path, seen := field.NewPath("spec", "limits"), sets.New[corev1.LimitType]()
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], path.Index(i)
		bad := check.QualifiedName(string(item.Type), at.Child("type"))
		if len(bad) == 0 && !strings.Contains(string(item.Type), "/") && !slices.Contains(limitTypes, item.Type) {
			bad = append(bad, field.Invalid(at.Child("type"), item.Type, "must be a standard limit type or fully qualified"))
		}
		errs = append(errs, bad...)
		if seen.Has(item.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), item.Type))
		}
		seen.Insert(item.Type)
		errs = append(errs, validateLimitItem(item, at)...)
	}
	return errs
}

func validateLimitItem(item *corev1.LimitRangeItem, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[corev1.ResourceName]()
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
		pod  bool // a pod may have it
	}{
		{"max", item.Max, true}, {"min", item.Min, true}, {"default", item.Default, false},
		{"defaultRequest", item.DefaultRequest, false}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio, true},
	} {
		if item.Type == corev1.LimitTypePod && !list.pod {
			if len(list.of) > 0 {
				errs = append(errs, field.Forbidden(at.Child(list.name), "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			names.Insert(name)
			errs = append(errs, validateLimitName(item.Type, name, at.Child(list.name).Key(string(name)))...)
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, low := item.Min[corev1.ResourceStorage]
		_, high := item.Max[corev1.ResourceStorage]
		if !low && !high {
			errs = append(errs, field.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	for _, name := range sets.List(names) {
		errs = append(errs, validateLimitBounds(item, name, at)...)
	}
	return errs
}

func validateLimitName(t corev1.LimitType, name corev1.ResourceName, at *field.Path) field.ErrorList {
	if t == corev1.LimitTypePod || t == corev1.LimitTypeContainer {
		return validateContainerResource(name, at)
	}
	return validateResourceName(name, at)
}

// validateLimitBounds wants the figures for one resource to be in order: min, default request, default, max.
func validateLimitBounds(item *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	get := func(list corev1.ResourceList) *resource.Quantity {
		if q, ok := list[name]; ok {
			return &q
		}
		return nil
	}
	low, high, ratio := get(item.Min), get(item.Max), get(item.MaxLimitRequestRatio)
	var usual, request *resource.Quantity
	if item.Type != corev1.LimitTypePod {
		usual, request = get(item.Default), get(item.DefaultRequest)
	}
	order := func(list string, smaller, larger *resource.Quantity, format string) {
		if smaller != nil && larger != nil && smaller.Cmp(*larger) > 0 {
			errs = append(errs, field.Invalid(at.Child(list).Key(string(name)), smaller, fmt.Sprintf(format, smaller.String(), larger.String())))
		}
	}
	order("min", low, high, "min value %s is greater than max value %s")
	order("defaultRequest", low, request, "min value %s is greater than default request value %s")
	order("defaultRequest", request, high, "default request value %s is greater than max value %s")
	order("defaultRequest", request, usual, "default request value %s is greater than default limit value %s")
	order("default", low, usual, "min value %s is greater than default value %s")
	order("default", usual, high, "default value %s is greater than max value %s")
	if ratio != nil {
		errs = append(errs, validateLimitRatio(ratio, low, high, at.Child("maxLimitRequestRatio").Key(string(name)))...)
	}
	if !overcommit(name) && usual != nil && request != nil && usual.Cmp(*request) != 0 {
		errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(string(name)), request,
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", usual.String(), request.String(), name)))
	}
	return errs
}

func validateLimitRatio(ratio, low, high *resource.Quantity, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		errs = append(errs, field.Invalid(at, ratio, fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	if low == nil || high == nil || low.IsZero() {
		return errs
	}
	if most := high.AsApproximateFloat64() / low.AsApproximateFloat64(); ratio.AsApproximateFloat64() > most {
		errs = append(errs, field.Invalid(at, ratio, fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), most)))
	}
	return errs
}
