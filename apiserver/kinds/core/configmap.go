package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// maxDataBytes bounds the values of a ConfigMap or Secret, together.
const maxDataBytes = corev1.MaxSecretSize

const immutableData = "field is immutable when `immutable` is set"

// ConfigMap holds configuration for pods to consume.
var ConfigMap = resource.Define(scheme.Types, resource.Spec[corev1.ConfigMap]{
	Names: resource.Names{Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Short: []string{"cm"}},
	Scope: resource.Namespaced,
	Default: func(c *corev1.ConfigMap) {
		if c.Data == nil {
			c.Data = map[string]string{}
		}
	},
	Validate:                 validateConfigMap,
	ValidateUpdate:           validateConfigMapUpdate,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[corev1.ConfigMap]{
		{Name: "Data", Describe: corev1.ConfigMap{}.SwaggerDoc()["data"], Value: func(c *corev1.ConfigMap) any {
			return int64(len(c.Data) + len(c.BinaryData))
		}},
		show.Age[corev1.ConfigMap](),
	},
})

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	data, binary := field.NewPath("data"), field.NewPath("binaryData")
	for key, value := range c.Data {
		errs = append(errs, validateDataKey(key, data)...)
		if _, twice := c.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(data.Key(key), key, "duplicate of key present in binaryData"))
		}
		size += len(value)
	}
	for key, value := range c.BinaryData {
		errs = append(errs, validateDataKey(key, binary)...)
		size += len(value)
	}
	if size > maxDataBytes {
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxDataBytes))
	}
	return errs
}

func validateDataKey(key string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path.Key(key), key, msg))
	}
	return errs
}

func validateConfigMapUpdate(c, old *corev1.ConfigMap) field.ErrorList {
	if old.Immutable == nil || !*old.Immutable {
		return nil
	}
	var errs field.ErrorList
	if c.Immutable == nil || !*c.Immutable {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), immutableData))
	}
	if !equality.Semantic.DeepEqual(c.Data, old.Data) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), immutableData))
	}
	if !equality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) {
		errs = append(errs, field.Forbidden(field.NewPath("binaryData"), immutableData))
	}
	return errs
}
