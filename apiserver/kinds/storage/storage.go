// Package storage declares the kinds of the group storage.k8s.io: where volumes come from and how they reach nodes.
package storage

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/resource"
)

const group, version = "storage.k8s.io", "v1"

func names(kind, plural string, short ...string) resource.Names {
	return resource.Names{Group: group, Version: version, Kind: kind, Plural: plural, Short: short}
}

// What a driver is told, and what it tells, is bounded.
const (
	maxParameters     = 512
	maxParameterBytes = 256 << 10
	maxMetadataBytes  = 256 << 10
	maxErrorBytes     = 1024
	maxNodeID         = 256
)

// provisioner wants the name of a driver.
func provisioner(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return check.QualifiedName(strings.ToLower(name), at)
}

func parameters(list map[string]string, mayBeEmpty bool, at *field.Path) field.ErrorList {
	if len(list) > maxParameters {
		return field.ErrorList{field.TooLong(at, "", maxParameters)}
	}
	var errs field.ErrorList
	size := 0
	for key, value := range list {
		if key == "" {
			errs = append(errs, field.Invalid(at, key, "field can not be empty."))
		}
		size += len(key) + len(value)
	}
	if size > maxParameterBytes {
		errs = append(errs, field.TooLong(at, "", maxParameterBytes))
	}
	if !mayBeEmpty && len(list) == 0 {
		errs = append(errs, field.Required(at, "must contain at least one key/value pair"))
	}
	return errs
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
