package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

// mounts checks where a container sees the pod's volumes.
func (c *podCheck) mounts(ct *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	places := map[string]bool{}
	for i, m := range ct.VolumeMounts {
		at := path.Index(i)
		errs = append(errs, required(m.Name, at.Child("name"))...)
		if c.volumes[m.Name] == nil {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		errs = append(errs, required(m.MountPath, at.Child("mountPath"))...)
		if places[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		places[m.MountPath] = true
		for _, d := range ct.VolumeDevices {
			if d.Name == m.Name {
				errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
			}
			if d.DevicePath == m.MountPath {
				errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
			}
		}
		if m.SubPath != "" {
			errs = append(errs, descending(m.SubPath, path.Child("subPath"))...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, descending(m.SubPathExpr, path.Child("subPathExpr"))...)
		}
		errs = append(errs, propagation(m, ct.SecurityContext, path)...)
	}
	return errs
}

func propagation(m corev1.VolumeMount, sc *corev1.SecurityContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := m.MountPropagation; p != nil {
		at := path.Child("mountPropagation")
		errs = append(errs, check.Among(*p, at, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		if privileged := sc != nil && deref(sc.Privileged); *p == corev1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(at, "Bidirectional mount propagation is available only to privileged containers"))
		}
	}
	r := m.RecursiveReadOnly
	if r == nil || *r == corev1.RecursiveReadOnlyDisabled {
		return errs
	}
	at := path.Child("recursiveReadOnly")
	bad := check.Among(*r, at, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled)
	if len(bad) > 0 {
		return append(errs, bad...)
	}
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(at, "may only be specified when readOnly is true"))
	}
	if p := m.MountPropagation; p != nil && *p != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(at, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

// devices checks which volumes a container gets as raw block devices: claims only.
func (c *podCheck) devices(ct *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, places := map[string]bool{}, map[string]bool{}
	for i, d := range ct.VolumeDevices {
		at := path.Index(i)
		errs = append(errs, required(d.Name, at.Child("name"))...)
		if names[d.Name] {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must be unique"))
		}
		names[d.Name] = true
		if v := c.volumes[d.Name]; v == nil {
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		} else if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		place := at.Child("devicePath")
		errs = append(errs, required(d.DevicePath, place)...)
		if places[d.DevicePath] {
			errs = append(errs, field.Invalid(place, d.DevicePath, "must be unique"))
		}
		places[d.DevicePath] = true
		if len(noBacksteps(d.DevicePath, place)) > 0 {
			errs = append(errs, field.Invalid(place, d.DevicePath, "can not contain backsteps ('..')"))
		}
		for _, m := range ct.VolumeMounts {
			if m.Name == d.Name {
				errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must not already exist in volumeMounts"))
			}
			if m.MountPath == d.DevicePath {
				errs = append(errs, field.Invalid(place, d.DevicePath, "must not already exist as a path in volumeMounts"))
			}
		}
	}
	return errs
}
