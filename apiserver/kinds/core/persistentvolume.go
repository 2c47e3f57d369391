package core

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// PersistentVolume is a piece of storage that outlives pods.
var PersistentVolume = resource.Define(scheme.Types, resource.Spec[corev1.PersistentVolume]{
	Names:     resource.Names{Version: "v1", Kind: "PersistentVolume", Plural: "persistentvolumes", Short: []string{"pv"}},
	Scope:     resource.Cluster,
	Default:   defaultPersistentVolume,
	SetStatus: setVolumeStatus,
	Prepare: func(_ context.Context, v, old *corev1.PersistentVolume) {
		if old == nil {
			now := metav1.Now()
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
		}
	},
	Validate: func(v *corev1.PersistentVolume) field.ErrorList {
		return ValidateVolumeSpec(&v.Spec, field.NewPath("spec"))
	},
	ValidateUpdate:           validateVolumeUpdate,
	Warnings:                 warnPersistentVolume,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*corev1.PersistentVolume) string{
		"name": func(v *corev1.PersistentVolume) string { return v.Name }, // upstream's slip, which clients rely on
	},
	Columns: volumeColumns(),
})

func defaultPersistentVolume(v *corev1.PersistentVolume) {
	fill.Zero(&v.Status.Phase, corev1.VolumePending)
	fill.Zero(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	fill.Ptr(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundToMilli(v.Spec.Capacity)
	switch s := &v.Spec.PersistentVolumeSource; {
	case s.HostPath != nil:
		fill.Ptr(&s.HostPath.Type, corev1.HostPathUnset)
	case s.RBD != nil:
		fill.Zero(&s.RBD.RBDPool, "rbd")
		fill.Zero(&s.RBD.RadosUser, "admin")
		fill.Zero(&s.RBD.Keyring, "/etc/ceph/keyring")
	case s.ISCSI != nil:
		fill.Zero(&s.ISCSI.ISCSIInterface, "default")
	case s.AzureDisk != nil:
		defaultAzureDisk(s.AzureDisk)
	case s.ScaleIO != nil:
		fill.Zero(&s.ScaleIO.StorageMode, "ThinProvisioned")
		fill.Zero(&s.ScaleIO.FSType, "xfs")
	}
}

// setVolumeStatus notes when the phase changes.
func setVolumeStatus(dst, src *corev1.PersistentVolume) {
	was := dst.Status
	src.Status.DeepCopyInto(&dst.Status)
	switch {
	case dst.Status.Phase == was.Phase:
		if dst.Status.LastPhaseTransitionTime == nil {
			dst.Status.LastPhaseTransitionTime = was.LastPhaseTransitionTime
		}
	case dst.Status.LastPhaseTransitionTime.Equal(was.LastPhaseTransitionTime):
		now := metav1.Now()
		dst.Status.LastPhaseTransitionTime = &now
	}
}

var accessModes = []corev1.PersistentVolumeAccessMode{
	corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod,
}

func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, empty string, at *field.Path) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(at, empty)}
	}
	var errs field.ErrorList
	alone, others := false, false
	for _, m := range modes {
		bad := check.Among(m, at, accessModes...)
		errs = append(errs, bad...)
		alone = alone || m == corev1.ReadWriteOncePod
		others = others || m != corev1.ReadWriteOncePod && len(bad) == 0
	}
	if alone && others {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateVolumeSpec returns what is wrong with a volume, which must have its defaults.
func ValidateVolumeSpec(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	errs := validateAccessModes(s.AccessModes, "", at.Child("accessModes"))
	errs = append(errs, validateCapacity(s.Capacity, at.Child("capacity"))...)
	errs = append(errs, check.Among(s.PersistentVolumeReclaimPolicy, at.Child("persistentVolumeReclaimPolicy"),
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	errs = append(errs, validateVolumeAffinity(s.NodeAffinity, at.Child("nodeAffinity"))...)
	errs = append(errs, validateVolumeSource(s, at)...)
	if h := s.HostPath; h != nil && path.Clean(h.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, check.Subdomain(s.StorageClassName, at.Child("storageClassName"))...)
	}
	errs = append(errs, validateVolumeMode(s.VolumeMode, at.Child("volumeMode"))...)
	if class := s.VolumeAttributesClassName; class != nil {
		if *class == "" {
			errs = append(errs, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
		} else {
			errs = append(errs, check.Subdomain(*class, at.Child("volumeAttributesClassName"))...)
		}
		if s.CSI == nil {
			errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// ValidateInlineVolume returns what is wrong with a volume that is given in full in the place of a name.
func ValidateInlineVolume(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	return append(validateAccessModes(s.AccessModes, "", at.Child("accessModes")), validateVolumeSource(s, at)...)
}

func validateVolumeMode(mode *corev1.PersistentVolumeMode, at *field.Path) field.ErrorList {
	if mode == nil {
		return nil
	}
	return check.Among(*mode, at, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
}

func validateCapacity(list corev1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := list[corev1.ResourceStorage]; !ok || len(list) > 1 {
		errs = append(errs, field.NotSupported(at, list, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, q := range list {
		if q.Value() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.Value(), "must be a valid resource quantity"))
		}
		if q.Sign() <= 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), "must be greater than zero"))
		}
	}
	return errs
}

func validateVolumeAffinity(a *corev1.VolumeNodeAffinity, at *field.Path) field.ErrorList {
	if a == nil {
		return nil
	}
	if a.Required == nil {
		return field.ErrorList{field.Required(at.Child("required"), "must specify required node constraints")}
	}
	return ValidateNodeSelector(a.Required, at.Child("required"))
}

// validateVolumeSource wants exactly one source.
func validateVolumeSource(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	source := reflect.ValueOf(s.PersistentVolumeSource)
	var errs field.ErrorList
	found := false
	for i := range source.NumField() {
		if source.Field(i).IsNil() {
			continue
		}
		if name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ","); found {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
		}
		found = true
	}
	if !found {
		return field.ErrorList{field.Required(at, "must specify a volume type")}
	}
	return append(volumeSource(s, at), errs...)
}

// volumeSource checks the one source.
func volumeSource(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	switch {
	case s.HostPath != nil:
		return hostPath(s.HostPath, at.Child("hostPath"))
	case s.Local != nil:
		errs := required(s.Local.Path, at.Child("local", "path"))
		errs = append(errs, noBacksteps(s.Local.Path, at.Child("local", "path"))...)
		if s.NodeAffinity == nil {
			errs = append(errs, field.Required(at.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
		return errs
	case s.CSI != nil:
		return volumeCSI(s.CSI, at.Child("csi"))
	case s.Glusterfs != nil:
		errs := required(s.Glusterfs.EndpointsName, at.Child("glusterfs", "endpoints"))
		errs = append(errs, required(s.Glusterfs.Path, at.Child("glusterfs", "path"))...)
		if n := s.Glusterfs.EndpointsNamespace; n != nil && *n == "" {
			errs = append(errs, field.Invalid(at.Child("glusterfs", "endpointsNamespace"), *n, "if the endpointnamespace is set, it must be a valid namespace name"))
		}
		return errs
	case s.FlexVolume != nil:
		return required(s.FlexVolume.Driver, at.Child("flexVolume", "driver"))
	case s.AzureFile != nil:
		return append(required(s.AzureFile.SecretName, at.Child("azureFile", "secretName")), required(s.AzureFile.ShareName, at.Child("azureFile", "shareName"))...)
	case s.ScaleIO != nil:
		return disk(&corev1.VolumeSource{ScaleIO: &corev1.ScaleIOVolumeSource{Gateway: s.ScaleIO.Gateway, System: s.ScaleIO.System, VolumeName: s.ScaleIO.VolumeName}}, at)
	}
	return disk(ephemeralTwin(&s.PersistentVolumeSource), at)
}

// ephemeralTwin is the source as a pod's volume would name it: what identifies the disk is the same there.
func ephemeralTwin(s *corev1.PersistentVolumeSource) *corev1.VolumeSource {
	v := &corev1.VolumeSource{
		NFS: s.NFS, GCEPersistentDisk: s.GCEPersistentDisk, AWSElasticBlockStore: s.AWSElasticBlockStore, FC: s.FC, VsphereVolume: s.VsphereVolume,
		Quobyte: s.Quobyte, AzureDisk: s.AzureDisk, PhotonPersistentDisk: s.PhotonPersistentDisk, PortworxVolume: s.PortworxVolume, Flocker: s.Flocker,
	}
	switch {
	case s.ISCSI != nil:
		v.ISCSI = &corev1.ISCSIVolumeSource{TargetPortal: s.ISCSI.TargetPortal, IQN: s.ISCSI.IQN}
	case s.RBD != nil:
		v.RBD = &corev1.RBDVolumeSource{CephMonitors: s.RBD.CephMonitors, RBDImage: s.RBD.RBDImage}
	case s.Cinder != nil:
		v.Cinder = &corev1.CinderVolumeSource{VolumeID: s.Cinder.VolumeID}
	case s.CephFS != nil:
		v.CephFS = &corev1.CephFSVolumeSource{Monitors: s.CephFS.Monitors}
	case s.StorageOS != nil:
		v.StorageOS = &corev1.StorageOSVolumeSource{VolumeName: s.StorageOS.VolumeName}
	}
	return v
}

func volumeCSI(c *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := DriverName(c.Driver, at.Child("driver"))
	errs = append(errs, required(c.VolumeHandle, at.Child("volumeHandle"))...)
	for _, ref := range []struct {
		name string
		to   *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef}, {"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef}, {"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		if ref.to == nil {
			continue
		}
		for _, part := range []struct{ name, value string }{{"name", ref.to.Name}, {"namespace", ref.to.Namespace}} {
			if at := at.Child(ref.name, part.name); part.value == "" {
				errs = append(errs, field.Required(at, ""))
			} else if part.name == "name" {
				errs = append(errs, check.Subdomain(part.value, at)...)
			} else {
				errs = append(errs, check.DNSLabel(part.value, at)...)
			}
		}
	}
	return errs
}

// DriverName wants the name of a CSI driver.
func DriverName(name string, at *field.Path) field.ErrorList {
	const longest = 63
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > longest {
		errs = append(errs, field.TooLong(at, "", longest))
	}
	return append(errs, check.Subdomain(strings.ToLower(name), at)...)
}

// validateVolumeUpdate keeps what a volume is. What expands it may be added once.
func validateVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	var errs field.ErrorList
	now, was := v.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource
	if was.CSI != nil && was.CSI.ControllerExpandSecretRef == nil && now.CSI != nil && now.CSI.ControllerExpandSecretRef != nil {
		csi := *now.CSI
		csi.ControllerExpandSecretRef = nil
		now.CSI = &csi
	}
	if !equality.Semantic.DeepEqual(now, was) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"), "spec.persistentvolumesource is immutable after creation"))
	}
	errs = append(errs, check.Immutable(v.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if a := old.Spec.NodeAffinity; a != nil && !equality.Semantic.DeepEqual(renewed(v.Spec.NodeAffinity), renewed(a)) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// renewed is an affinity with today's names of labels in the place of old ones.
func renewed(a *corev1.VolumeNodeAffinity) *corev1.VolumeNodeAffinity {
	out := a.DeepCopy()
	if out == nil || out.Required == nil {
		return out
	}
	for _, term := range out.Required.NodeSelectorTerms {
		for i := range term.MatchExpressions {
			key := &term.MatchExpressions[i].Key
			if _, hint, ok := strings.Cut(oldNodeLabels[*key], `use "`); ok {
				*key, _, _ = strings.Cut(hint, `"`)
			}
		}
	}
	return out
}

func warnPersistentVolume(v, _ *corev1.PersistentVolume) []string {
	var warnings []string
	add := func(when bool, at *field.Path, text string) {
		if when {
			warnings = append(warnings, fmt.Sprintf("%s: %s", at, text))
		}
	}
	const oldAnnotation = `deprecated since v1.8; use "storageClassName" attribute instead`
	meta, spec, s := field.NewPath("metadata", "annotations"), field.NewPath("spec"), &v.Spec
	_, has := v.Annotations[corev1.BetaStorageClassAnnotation]
	add(has, meta.Key(corev1.BetaStorageClassAnnotation), oldAnnotation)
	add(s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle, spec.Child("persistentVolumeReclaimPolicy"),
		"The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	if s.NodeAffinity != nil && s.NodeAffinity.Required != nil {
		for i, t := range s.NodeAffinity.Required.NodeSelectorTerms {
			for j, e := range t.MatchExpressions {
				msg := oldNodeLabels[e.Key]
				add(msg != "", spec.Child("nodeAffinity", "required", "nodeSelectorTerms").Index(i).Child("matchExpressions").Index(j).Child("key"), e.Key+" is "+msg)
			}
		}
	}
	add(s.CephFS != nil, spec.Child("cephfs"), "deprecated in v1.28, non-functional in v1.31+")
	add(s.PhotonPersistentDisk != nil, spec.Child("photonPersistentDisk"), "deprecated in v1.11, non-functional in v1.16+")
	add(s.ScaleIO != nil, spec.Child("scaleIO"), "deprecated in v1.16, non-functional in v1.22+")
	add(s.StorageOS != nil, spec.Child("storageOS"), "deprecated in v1.22, non-functional in v1.25+")
	add(s.Glusterfs != nil, spec.Child("glusterfs"), "deprecated in v1.25, non-functional in v1.26+")
	add(s.RBD != nil, spec.Child("rbd"), "deprecated in v1.28, non-functional in v1.31+")
	return warnings
}

func volumeColumns() []resource.Column[corev1.PersistentVolume] {
	type pv = corev1.PersistentVolume
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return []resource.Column[pv]{
		{Name: "Capacity", Describe: spec["capacity"], Value: func(v *pv) any { q := v.Spec.Capacity[corev1.ResourceStorage]; return q.String() }},
		{Name: "Access Modes", Describe: spec["accessModes"], Value: func(v *pv) any { return showModes(v.Spec.AccessModes) }},
		{Name: "Reclaim Policy", Describe: spec["persistentVolumeReclaimPolicy"], Value: func(v *pv) any { return string(v.Spec.PersistentVolumeReclaimPolicy) }},
		{Name: "Status", Describe: status["phase"], Value: func(v *pv) any { return show.Phase(v, string(v.Status.Phase)) }},
		{Name: "Claim", Describe: spec["claimRef"], Value: func(v *pv) any {
			if v.Spec.ClaimRef == nil {
				return ""
			}
			return v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
		}},
		{Name: "StorageClass", Describe: "StorageClass of the pv", Value: func(v *pv) any {
			return show.Or(v.Annotations[corev1.BetaStorageClassAnnotation], v.Spec.StorageClassName)
		}},
		{Name: "VolumeAttributesClass", Describe: "VolumeAttributesClass of the pv", Value: func(v *pv) any { return show.Set(v.Spec.VolumeAttributesClassName) }},
		{Name: "Reason", Describe: status["reason"], Value: func(v *pv) any { return v.Status.Reason }},
		show.Age[pv](),
		{Name: "VolumeMode", Wide: true, Describe: spec["volumeMode"], Value: func(v *pv) any { return show.Set(v.Spec.VolumeMode) }},
	}
}

// showModes shortens access modes: RWO,ROX.
func showModes(modes []corev1.PersistentVolumeAccessMode) string {
	short := []string{"RWO", "ROX", "RWX", "RWOP"}
	var out []string
	for i, m := range accessModes {
		for _, has := range modes {
			if has == m {
				out = append(out, short[i])
				break
			}
		}
	}
	return strings.Join(out, ",")
}
