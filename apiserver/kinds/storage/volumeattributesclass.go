package storage

import (
	"maps"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

var nameDoc = metav1.ObjectMeta{}.SwaggerDoc()["name"]

// VolumeAttributesClass names properties of volumes that can change while they are in use.
var VolumeAttributesClass = resource.Define(scheme.Types, resource.Spec[storagev1.VolumeAttributesClass]{
	Names: names("VolumeAttributesClass", "volumeattributesclasses", "vac"),
	Scope: resource.Cluster,
	Validate: func(c *storagev1.VolumeAttributesClass) field.ErrorList {
		return append(provisioner(c.DriverName, field.NewPath("driverName")), parameters(c.Parameters, false, field.NewPath("parameters"))...)
	},
	ValidateUpdate: func(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
		var errs field.ErrorList
		if c.DriverName != old.DriverName {
			errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
		}
		if !maps.Equal(c.Parameters, old.Parameters) {
			errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
		}
		return errs
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[storagev1.VolumeAttributesClass]{
		{Name: "DriverName", Describe: storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], Value: func(c *storagev1.VolumeAttributesClass) any { return c.DriverName }},
		show.Age[storagev1.VolumeAttributesClass](),
	},
})
