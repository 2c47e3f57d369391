package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

const nativeDomain = "kubernetes.io/"

// validateQuantity wants a quantity of at least zero, and a whole one for resources that have no fractions.
func validateQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be greater than or equal to 0"))
	}
	if whole(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q, "must be an integer"))
	}
	return errs
}

// whole says that a resource is counted in whole numbers: pods, and everything that devices provide.
func whole(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return extended(name)
}

func hugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// native says that a resource is one of Kubernetes' own: without a domain, or with kubernetes.io in it.
func native(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), nativeDomain)
}

// extended says that a resource is one that somebody else defines, such as example.com/gpu.
func extended(name corev1.ResourceName) bool {
	if native(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// overcommit says that more of a resource may be promised than there is.
func overcommit(name corev1.ResourceName) bool { return native(name) && !hugePages(name) }

var containerResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// validateContainerResource wants the name of a resource that a container can ask for.
func validateContainerResource(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if errs := check.Each(path, name, validation.IsQualifiedName(string(name))); len(errs) > 0 {
		return errs
	}
	if !strings.Contains(string(name), "/") {
		if slices.Contains(containerResources, name) || hugePages(name) {
			return nil
		}
		var errs field.ErrorList
		if !slices.Contains([]corev1.ResourceName{corev1.ResourcePods, corev1.ResourceStorage}, name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource type or fully qualified"))
		}
		return append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
	}
	if !native(name) && !extended(name) {
		return field.ErrorList{field.Invalid(path, name, "doesn't follow extended resource name standard")}
	}
	return nil
}

// ValidateContainerResourceName wants the name of a resource that a container can ask for.
func ValidateContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	return validateContainerResource(name, path)
}

// ValidateContainerResources returns what is wrong with the requests and limits of a container.
func ValidateContainerResources(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	return validateResources(r, validateContainerResource, path)
}

// RoundToMilli rounds quantities up to a thousandth, the smallest unit the API keeps.
func RoundToMilli(list corev1.ResourceList) { roundToMilli(list) }

// validatePodResource wants the name of a resource that a pod as a whole can ask for.
func validatePodResource(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if errs := check.Each(path, name, validation.IsQualifiedName(string(name))); len(errs) > 0 {
		return errs
	}
	if name == corev1.ResourceCPU || name == corev1.ResourceMemory || hugePages(name) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, name, []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceHugePagesPrefix, corev1.ResourceMemory})}
}

// validateResources checks requests and limits: names, quantities, and that no request is above its limit.
func validateResources(r *corev1.ResourceRequirements, validName func(corev1.ResourceName, *field.Path) field.ErrorList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	huge, compute := false, false
	one := func(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
		errs = append(errs, validName(name, at)...)
		errs = append(errs, validateQuantity(name, q, at)...)
		compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		if hugePages(name) {
			huge = true
			errs = append(errs, validateHugePages(name, q, at)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		one(name, r.Limits[name], limits.Key(string(name)))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		q := r.Requests[name]
		one(name, q, requests.Key(string(name)))
		limit, limited := r.Limits[name]
		switch {
		case !limited && !overcommit(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		case limited && !overcommit(name) && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	if huge && !compute {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

func validateHugePages(name corev1.ResourceName, q resource.Quantity, path *field.Path) field.ErrorList {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err == nil && size.Sign() > 0 && size.MilliValue()%1000 == 0 && q.Value()%size.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))}
}
