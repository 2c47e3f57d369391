package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

const tooManySources = "may not have more than one field specified at a time"

// env checks environment variables and where their values come from.
func (c *podCheck) env(vars []corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, v := range vars {
		at := path.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, check.Each(at.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))...)
		}
		if v.ValueFrom != nil {
			errs = append(errs, c.envSource(v, at.Child("valueFrom"))...)
		}
	}
	return errs
}

func (c *podCheck) envSource(v corev1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	from, sources := v.ValueFrom, 0
	if r := from.FieldRef; r != nil {
		sources++
		errs = append(errs, fieldRef(r, envFields, path.Child("fieldRef"))...)
	}
	if r := from.ResourceFieldRef; r != nil {
		sources++
		errs = append(errs, resourceRef(r, false, path.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		sources++
		errs = append(errs, keyRef(r.Name, r.Key, path.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		sources++
		errs = append(errs, keyRef(r.Name, r.Key, path.Child("secretKeyRef"))...)
	}
	if r := from.FileKeyRef; r != nil {
		sources++
		errs = append(errs, c.fileKey(r, path.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", tooManySources))
	}
	return errs
}

func keyRef(name, key string, path *field.Path) field.ErrorList {
	errs := check.Subdomain(name, path.Child("name"))
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, check.Each(path.Child("key"), key, validation.IsConfigMapKey(key))...)
}

// fileKey wants a variable in a file of an emptyDir of this pod.
func (c *podCheck) fileKey(r *corev1.FileKeySelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Key == "" {
		errs = append(errs, field.Required(path.Child("key"), ""))
	} else {
		errs = append(errs, check.Each(path.Child("key"), r.Key, validation.IsRelaxedEnvVarName(r.Key))...)
	}
	at := path.Child("volumeName")
	if r.VolumeName == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.DNSLabel(r.VolumeName, at)...)
	}
	if r.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	} else {
		errs = append(errs, noBacksteps(r.Path, path.Child("path"))...)
	}
	if v := c.volumes[r.VolumeName]; v == nil {
		errs = append(errs, field.NotFound(at, r.VolumeName))
	} else if v.EmptyDir == nil {
		errs = append(errs, field.Invalid(at, r.VolumeName, "referenced volume must be of type emptyDir"))
	}
	return errs
}

func envFrom(sources []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range sources {
		at := path.Index(i)
		if s.Prefix != "" {
			errs = append(errs, check.Each(at.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))...)
		}
		n := 0
		one := func(name string, path *field.Path) {
			n++
			if name == "" {
				errs = append(errs, field.Required(path.Child("name"), ""))
			} else {
				errs = append(errs, check.Subdomain(name, path.Child("name"))...)
			}
		}
		if s.ConfigMapRef != nil {
			one(s.ConfigMapRef.Name, at.Child("configMapRef"))
		}
		if s.SecretRef != nil {
			one(s.SecretRef.Name, at.Child("secretRef"))
		}
		switch {
		case n == 0:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case n > 1:
			errs = append(errs, field.Invalid(path, "", tooManySources))
		}
	}
	return errs
}

// The fields of a pod that its containers may read: as variables, and as files.
var (
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	fileFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	// podLabels are all names of fields that exist, readable or not.
	podLabels = append([]string{"spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"}, append(envFields, fileFields...)...)
)

// fieldRef wants one of the given fields, or one label or annotation: metadata.labels['key'].
func fieldRef(r *corev1.ObjectFieldSelector, fields []string, path *field.Path) field.ErrorList {
	at := path.Child("fieldPath")
	convert := func(format string, args ...any) field.ErrorList {
		return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: "+fmt.Sprintf(format, args...))}
	}
	switch {
	case r.APIVersion == "":
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	case r.FieldPath == "":
		return field.ErrorList{field.Required(at, "")}
	case r.APIVersion != "v1":
		return convert("unsupported pod version: %s", r.APIVersion)
	}
	if name, key, ok := subscript(r.FieldPath); ok {
		switch name {
		case "metadata.annotations":
			return check.QualifiedName(strings.ToLower(key), path)
		case "metadata.labels":
			return check.QualifiedName(key, path)
		}
		return convert("field label does not support subscript: %s", r.FieldPath)
	}
	if !slices.Contains(podLabels, r.FieldPath) {
		return convert("field label not supported: %s", r.FieldPath)
	}
	if name := strings.Replace(r.FieldPath, "spec.host", "spec.nodeName", 1); r.FieldPath == "spec.host" && slices.Contains(fields, name) {
		return nil
	}
	return check.Among(r.FieldPath, at, fields...)
}

// subscript takes metadata.labels['app'] apart.
func subscript(path string) (name, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return path, "", false
	}
	name, key, ok = strings.Cut(rest, "['")
	if !ok || name == "" {
		return path, "", false
	}
	return name, key, true
}

var resourceFields = []string{
	"limits.cpu", "limits.memory", "limits.ephemeral-storage",
	"requests.cpu", "requests.memory", "requests.ephemeral-storage",
}

func resourceRef(r *corev1.ResourceFieldSelector, needContainer bool, path *field.Path) field.ErrorList {
	huge := strings.HasPrefix(r.Resource, "limits.hugepages-") || strings.HasPrefix(r.Resource, "requests.hugepages-")
	var errs field.ErrorList
	switch {
	case needContainer && r.ContainerName == "":
		errs = append(errs, field.Required(path.Child("containerName"), ""))
	case r.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case !huge:
		errs = append(errs, check.Among(r.Resource, path.Child("resource"), resourceFields...)...)
	}
	if r.Divisor.IsZero() {
		return errs
	}
	divisor, at := r.Divisor.String(), path.Child("divisor")
	if strings.HasSuffix(r.Resource, ".cpu") {
		if divisor != "1" && divisor != "1m" {
			errs = append(errs, field.Invalid(at, r.Resource, "only divisor's values 1m and 1 are supported with the cpu resource"))
		}
		return errs
	}
	what := map[bool]string{true: "hugepages", false: "memory"}[huge]
	if strings.HasSuffix(r.Resource, ".ephemeral-storage") {
		what = "local ephemeral storage"
	}
	divisors := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	if !slices.Contains(divisors, divisor) {
		errs = append(errs, field.Invalid(at, r.Resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", strings.Join(divisors, ", "), what)))
	}
	return errs
}
