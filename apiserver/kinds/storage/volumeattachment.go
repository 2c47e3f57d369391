package storage

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// VolumeAttachment wishes for a volume to be attached to a node, and says whether it is.
var VolumeAttachment = resource.Define(scheme.Types, resource.Spec[storagev1.VolumeAttachment]{
	Names:     names("VolumeAttachment", "volumeattachments"),
	Scope:     resource.Cluster,
	SetStatus: func(dst, src *storagev1.VolumeAttachment) { src.Status.DeepCopyInto(&dst.Status) },
	Validate: func(a *storagev1.VolumeAttachment) field.ErrorList {
		path := field.NewPath("spec")
		errs := core.DriverName(a.Spec.Attacher, path.Child("attacher"))
		errs = append(errs, validateSource(&a.Spec.Source, path.Child("source"))...)
		errs = append(errs, check.Subdomain(a.Spec.NodeName, path.Child("nodeName"))...)
		errs = append(errs, validateAttachmentStatus(&a.Status)...)
		if name := a.Spec.Source.PersistentVolumeName; name != nil {
			errs = append(errs, check.Subdomain(*name, field.NewPath("spec.source.persistentVolumeName"))...)
		}
		return errs
	},
	ValidateUpdate: func(a, old *storagev1.VolumeAttachment) field.ErrorList {
		return check.Immutable(a.Spec, old.Spec, field.NewPath("spec"))
	},
	ValidateStatusUpdate: func(a, _ *storagev1.VolumeAttachment) field.ErrorList { return validateAttachmentStatus(&a.Status) },
	ReturnDeleted:        true,
	Columns: []resource.Column[storagev1.VolumeAttachment]{
		{Name: "Attacher", Format: "name", Describe: storagev1.VolumeAttachmentSpec{}.SwaggerDoc()["attacher"], Value: func(a *storagev1.VolumeAttachment) any { return a.Spec.Attacher }},
		{Name: "PV", Describe: storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"], Value: func(a *storagev1.VolumeAttachment) any {
			return deref(a.Spec.Source.PersistentVolumeName)
		}},
		{Name: "Node", Describe: storagev1.VolumeAttachmentSpec{}.SwaggerDoc()["nodeName"], Value: func(a *storagev1.VolumeAttachment) any { return a.Spec.NodeName }},
		{Name: "Attached", Type: "boolean", Describe: storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"], Value: func(a *storagev1.VolumeAttachment) any { return a.Status.Attached }},
		show.Age[storagev1.VolumeAttachment](),
	},
})

// validateSource wants a volume by name or, for volumes that have no object, in full.
func validateSource(s *storagev1.VolumeAttachmentSource, at *field.Path) field.ErrorList {
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch inline, name := s.InlineVolumeSpec, s.PersistentVolumeName; {
	case inline == nil && name == nil:
		return field.ErrorList{field.Required(at, one)}
	case inline != nil && name != nil:
		return field.ErrorList{field.Forbidden(at, one)}
	case name != nil && *name == "":
		return field.ErrorList{field.Required(at.Child("persistentVolumeName"), "must specify non empty persistentVolumeName")}
	case inline != nil:
		return validateInline(inline, at.Child("inlineVolumeSpec"))
	}
	return nil
}

// validateInline wants a CSI volume without what only an object of its own could have.
func validateInline(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	const inline = "may not be specified in the context of inline volumes"
	for _, f := range []struct {
		name  string
		there bool
	}{{"claimRef", s.ClaimRef != nil}, {"capacity", len(s.Capacity) > 0}, {"nodeAffinity", s.NodeAffinity != nil}, {"storageClassName", s.StorageClassName != ""}} {
		if f.there {
			errs = append(errs, field.Forbidden(at.Child(f.name), inline))
		}
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	if p := s.PersistentVolumeReclaimPolicy; p != "" && p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may only be Retain in the context of inline volumes"))
	}
	if m := s.VolumeMode; m != nil && *m != corev1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than Filesystem in the context of inline volumes"))
	}
	return append(errs, core.ValidateInlineVolume(s, at)...)
}

func validateAttachmentStatus(s *storagev1.VolumeAttachmentStatus) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	size := 0
	for key, value := range s.AttachmentMetadata {
		size += len(key) + len(value)
	}
	if size > maxMetadataBytes {
		errs = append(errs, field.TooLong(path.Child("attachmentMetadata"), "", maxMetadataBytes))
	}
	for _, e := range []struct {
		name string
		of   *storagev1.VolumeError
	}{{"attachError", s.AttachError}, {"detachError", s.DetachError}} {
		if e.of == nil {
			continue
		}
		if len(e.of.Message) > maxErrorBytes {
			errs = append(errs, field.TooLong(path.Child(e.name, "message"), "", maxMetadataBytes))
		}
		if code := e.of.ErrorCode; code != nil && *code < 0 {
			errs = append(errs, field.Invalid(path.Child(e.name, "errorCode"), *code, validation.InclusiveRangeError(0, math.MaxInt32)))
		}
	}
	return errs
}
