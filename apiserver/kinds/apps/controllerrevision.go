package apps

import (
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ControllerRevision is a former state of a workload, to go back to.
var ControllerRevision = resource.Define(scheme.Types, resource.Spec[appsv1.ControllerRevision]{
	Names:                    resource.Names{Group: group, Version: version, Kind: "ControllerRevision", Plural: "controllerrevisions"},
	Scope:                    resource.Namespaced,
	Validate:                 validateRevision,
	ValidateCreate:           validateRevisionData,
	ValidateUpdate:           validateRevisionUpdate,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[appsv1.ControllerRevision]{
		{Name: "Controller", Describe: "Controller of the object", Value: showController},
		{Name: "Revision", Describe: appsv1.ControllerRevision{}.SwaggerDoc()["revision"], Value: func(r *appsv1.ControllerRevision) any { return r.Revision }},
		show.Age[appsv1.ControllerRevision](),
	},
})

func validateRevision(r *appsv1.ControllerRevision) field.ErrorList {
	return check.NonNegative(r.Revision, field.NewPath("revision"))
}

func validateRevisionData(r *appsv1.ControllerRevision) field.ErrorList {
	path := field.NewPath("data")
	var v any
	if r.Data.Raw == nil {
		return field.ErrorList{field.Required(path, "data is mandatory")}
	}
	if err := json.Unmarshal(r.Data.Raw, &v); err != nil {
		return field.ErrorList{field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data: %v", err))}
	}
	if v == nil {
		return field.ErrorList{field.Required(path, "data is mandatory")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Required(path, "data must be a valid JSON object")}
	}
	return nil
}

func validateRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	return check.Immutable(r.Data, old.Data, field.NewPath("data"))
}

func showController(r *appsv1.ControllerRevision) any {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return show.None
	}
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil {
		return show.Unknown
	}
	return strings.ToLower(gv.WithKind(owner.Kind).GroupKind().String()) + "/" + owner.Name
}
