package core

import (
	"fmt"
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

const fileMode = "must be a number between 0 and 0777 (octal), both inclusive"

// The lifetimes of projected tokens, in seconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

// allVolumes checks the volumes and remembers the good ones for the mounts.
func (c *podCheck) allVolumes(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	created := map[string]bool{}
	if c.isPod && c.meta.Name != "" {
		for _, v := range c.spec.Volumes {
			if v.Ephemeral != nil {
				created[c.meta.Name+"-"+v.Name] = true
			}
		}
	}
	for i := range c.spec.Volumes {
		v, at := &c.spec.Volumes[i], at.Index(i)
		bad := c.volume(v, at)
		if v.Name == "" {
			bad = append(bad, field.Required(at.Child("name"), ""))
		} else {
			bad = append(bad, check.DNSLabel(v.Name, at.Child("name"))...)
		}
		if c.volumes[v.Name] != nil {
			bad = append(bad, field.Duplicate(at.Child("name"), v.Name))
		}
		if len(bad) == 0 {
			c.volumes[v.Name] = &v.VolumeSource
		}
		errs = append(errs, bad...)
		if claim := v.PersistentVolumeClaim; claim != nil && created[claim.ClaimName] {
			errs = append(errs, field.Invalid(at.Child("persistentVolumeClaim", "claimName"), claim.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return errs
}

// volume wants exactly one source. The fields of a VolumeSource are pointers, named in JSON as their Go names begin.
func (c *podCheck) volume(v *corev1.Volume, at *field.Path) field.ErrorList {
	source := reflect.ValueOf(v.VolumeSource)
	var errs field.ErrorList
	first := ""
	for i := range source.NumField() {
		if source.Field(i).IsNil() {
			continue
		}
		name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
		if first != "" {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
			continue
		}
		first = name
	}
	if first == "" {
		return field.ErrorList{field.Required(at, "must specify a volume type")}
	}
	return append(c.source(v, at), errs...)
}

// source checks the one source of a volume.
func (c *podCheck) source(v *corev1.Volume, at *field.Path) field.ErrorList {
	switch {
	case v.EmptyDir != nil:
		if q := v.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
			return field.ErrorList{field.Forbidden(at.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity")}
		}
		return nil
	case v.HostPath != nil:
		return hostPath(v.HostPath, at.Child("hostPath"))
	case v.Secret != nil:
		at := at.Child("secret")
		return append(required(v.Secret.SecretName, at.Child("secretName")), items(v.Secret.Items, v.Secret.DefaultMode, at)...)
	case v.ConfigMap != nil:
		at := at.Child("configMap")
		return append(required(v.ConfigMap.Name, at.Child("name")), items(v.ConfigMap.Items, v.ConfigMap.DefaultMode, at)...)
	case v.DownwardAPI != nil:
		return downwardFiles(v.DownwardAPI.Items, v.DownwardAPI.DefaultMode, at.Child("downwardAPI"))
	case v.Projected != nil:
		return projected(v.Projected, at.Child("projected"))
	case v.PersistentVolumeClaim != nil:
		return required(v.PersistentVolumeClaim.ClaimName, at.Child("persistentVolumeClaim", "claimName"))
	case v.CSI != nil:
		return inlineCSI(v.CSI, at.Child("csi"))
	case v.Ephemeral != nil:
		return c.ephemeralVolume(v, at)
	case v.Image != nil:
		at := at.Child("image")
		errs := check.OneOf(v.Image.PullPolicy, at.Child("pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
		if c.isPod {
			errs = append(errs, required(v.Image.Reference, at.Child("reference"))...)
		}
		return errs
	}
	return disk(&v.VolumeSource, at)
}

func required(value string, at *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func hostPath(h *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := noBacksteps(h.Path, at.Child("path"))
	if h.Type != nil {
		errs = append(errs, check.Among(*h.Type, at.Child("type"), corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory,
			corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)...)
	}
	return errs
}

// items checks which keys become which files.
func items(list []corev1.KeyToPath, defaultMode *int32, at *field.Path) field.ErrorList {
	errs := mode(defaultMode, at.Child("defaultMode"))
	for i, item := range list {
		at := at.Child("items").Index(i)
		errs = append(errs, required(item.Key, at.Child("key"))...)
		errs = append(errs, required(item.Path, at.Child("path"))...)
		errs = append(errs, ownPath(item.Path, at.Child("path"))...)
		errs = append(errs, mode(item.Mode, at.Child("mode"))...)
	}
	return errs
}

func mode(m *int32, at *field.Path) field.ErrorList {
	if m != nil && (*m < 0 || *m > 0o777) {
		return field.ErrorList{field.Invalid(at, *m, fileMode)}
	}
	return nil
}

func downwardFiles(files []corev1.DownwardAPIVolumeFile, defaultMode *int32, at *field.Path) field.ErrorList {
	errs := mode(defaultMode, at.Child("defaultMode"))
	for _, f := range files {
		errs = append(errs, required(f.Path, at.Child("path"))...)
		errs = append(errs, ownPath(f.Path, at.Child("path"))...)
		errs = append(errs, mode(f.Mode, at.Child("mode"))...)
		switch {
		case f.FieldRef != nil:
			errs = append(errs, fieldRef(f.FieldRef, fileFields, at.Child("fieldRef"))...)
			if f.ResourceFieldRef != nil {
				errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
			}
		case f.ResourceFieldRef != nil:
			errs = append(errs, resourceRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		}
	}
	return errs
}

// projected checks the sources that share one directory: no two may write the same file.
func projected(p *corev1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := mode(p.DefaultMode, at.Child("defaultMode"))
	files := map[string]bool{}
	file := func(path, value string) {
		if path != "" && files[path] {
			errs = append(errs, field.Invalid(at, value, "conflicting duplicate paths"))
		}
		files[path] = true
	}
	for i, s := range p.Sources {
		from, n := at.Child("sources").Index(i), 0
		if s.Secret != nil {
			n++
			errs = append(errs, required(s.Secret.Name, from.Child("secret", "name"))...)
			errs = append(errs, items(s.Secret.Items, nil, from.Child("secret"))...)
			for _, item := range s.Secret.Items {
				file(item.Path, s.Secret.Name)
			}
		}
		if s.ConfigMap != nil {
			n++
			errs = append(errs, required(s.ConfigMap.Name, from.Child("configMap", "name"))...)
			errs = append(errs, items(s.ConfigMap.Items, nil, from.Child("configMap"))...)
			for _, item := range s.ConfigMap.Items {
				file(item.Path, s.ConfigMap.Name)
			}
		}
		if s.DownwardAPI != nil {
			n++
			errs = append(errs, downwardFiles(s.DownwardAPI.Items, nil, from.Child("downwardAPI"))...)
			for _, f := range s.DownwardAPI.Items {
				file(f.Path, f.Path)
			}
		}
		if s.ServiceAccountToken != nil {
			n++
			errs = append(errs, tokenSource(s.ServiceAccountToken, at, from.Child("serviceAccountToken"))...)
		}
		// Differs from upstream: nobody here signs these certificates or keeps these bundles.
		if s.ClusterTrustBundle != nil {
			n++
			errs = append(errs, field.Forbidden(from.Child("clusterTrustBundle"), "cluster trust bundles are not supported"))
		}
		if s.PodCertificate != nil {
			n++
			errs = append(errs, field.Forbidden(from.Child("podCertificate"), "pod certificates are not supported"))
		}
		if n > 1 {
			errs = append(errs, field.Forbidden(from, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func tokenSource(t *corev1.ServiceAccountTokenProjection, volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seconds := deref(t.ExpirationSeconds)
	if seconds < minTokenSeconds {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"))
	}
	if seconds > maxTokenSeconds {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	errs = append(errs, required(t.Path, volume.Child("path"))...)
	return append(errs, ownPath(t.Path, volume.Child("path"))...)
}

func inlineCSI(c *corev1.CSIVolumeSource, at *field.Path) field.ErrorList {
	const maxDriver = 63
	errs := required(c.Driver, at.Child("driver"))
	if len(c.Driver) > maxDriver {
		errs = append(errs, field.TooLong(at.Child("driver"), "", maxDriver))
	}
	if c.Driver != "" {
		errs = append(errs, check.Subdomain(strings.ToLower(c.Driver), at.Child("driver"))...)
	}
	if ref := c.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			return append(errs, field.Required(at.Child("nodePublishSecretRef", "name"), ""))
		}
		errs = append(errs, check.Subdomain(ref.Name, at.Child("name"))...)
	}
	return errs
}

// ephemeralVolume checks the template of a claim that is made for this pod.
func (c *podCheck) ephemeralVolume(v *corev1.Volume, at *field.Path) field.ErrorList {
	t, from := v.Ephemeral.VolumeClaimTemplate, at.Child("ephemeral", "volumeClaimTemplate")
	if t == nil {
		return field.ErrorList{field.Required(from, "")}
	}
	errs := apivalidation.ValidateAnnotations(t.Annotations, from.Child("metadata", "annotations"))
	errs = append(errs, check.Labels(t.Labels, from.Child("metadata", "labels"))...)
	errs = append(errs, ValidateClaimSpec(&t.Spec, from.Child("spec"))...)
	if c.isPod && c.meta.Name != "" && v.Name != "" {
		claim := c.meta.Name + "-" + v.Name
		for _, msg := range validation.IsDNS1123Subdomain(claim) {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, fmt.Sprintf("PVC name %q: %v", claim, msg)))
		}
	}
	return errs
}

// disk checks the disks and file servers that volumes once named directly: what identifies them must be there.
func disk(v *corev1.VolumeSource, at *field.Path) field.ErrorList {
	need := func(source string, fields ...string) field.ErrorList {
		var errs field.ErrorList
		for i := 0; i < len(fields); i += 2 {
			errs = append(errs, required(fields[i+1], at.Child(source, fields[i]))...)
		}
		return errs
	}
	switch {
	case v.NFS != nil:
		errs := need("nfs", "server", v.NFS.Server, "path", v.NFS.Path)
		if v.NFS.Path != "" && !path.IsAbs(v.NFS.Path) {
			errs = append(errs, field.Invalid(at.Child("nfs", "path"), v.NFS.Path, "must be an absolute path"))
		}
		return errs
	case v.ISCSI != nil:
		return need("iscsi", "targetPortal", v.ISCSI.TargetPortal, "iqn", v.ISCSI.IQN)
	case v.GitRepo != nil:
		return append(need("gitRepo", "repository", v.GitRepo.Repository), descending(v.GitRepo.Directory, at.Child("gitRepo", "directory"))...)
	case v.GCEPersistentDisk != nil:
		return need("persistentDisk", "pdName", v.GCEPersistentDisk.PDName)
	case v.AWSElasticBlockStore != nil:
		return need("awsElasticBlockStore", "volumeID", v.AWSElasticBlockStore.VolumeID)
	case v.Glusterfs != nil:
		return need("glusterfs", "endpoints", v.Glusterfs.EndpointsName, "path", v.Glusterfs.Path)
	case v.RBD != nil:
		return need("rbd", "monitors", strings.Join(v.RBD.CephMonitors, ","), "image", v.RBD.RBDImage)
	case v.FlexVolume != nil:
		return need("flexVolume", "driver", v.FlexVolume.Driver)
	case v.Cinder != nil:
		return need("cinder", "volumeID", v.Cinder.VolumeID)
	case v.CephFS != nil:
		return need("cephfs", "monitors", strings.Join(v.CephFS.Monitors, ","))
	case v.FC != nil:
		if len(v.FC.TargetWWNs) == 0 && len(v.FC.WWIDs) == 0 {
			return field.ErrorList{field.Required(at.Child("fc", "targetWWNs"), "must specify either targetWWNs or wwids, but not both")}
		}
	case v.AzureFile != nil:
		return need("azureFile", "secretName", v.AzureFile.SecretName, "shareName", v.AzureFile.ShareName)
	case v.VsphereVolume != nil:
		return need("vsphereVolume", "volumePath", v.VsphereVolume.VolumePath)
	case v.Quobyte != nil:
		return need("quobyte", "registry", v.Quobyte.Registry, "volume", v.Quobyte.Volume)
	case v.AzureDisk != nil:
		return need("azureDisk", "diskName", v.AzureDisk.DiskName, "diskURI", v.AzureDisk.DataDiskURI)
	case v.PhotonPersistentDisk != nil:
		return need("photonPersistentDisk", "pdID", v.PhotonPersistentDisk.PdID)
	case v.PortworxVolume != nil:
		return need("portworxVolume", "volumeID", v.PortworxVolume.VolumeID)
	case v.ScaleIO != nil:
		return need("scaleIO", "gateway", v.ScaleIO.Gateway, "system", v.ScaleIO.System, "volumeName", v.ScaleIO.VolumeName)
	case v.StorageOS != nil:
		return need("storageos", "volumeName", v.StorageOS.VolumeName)
	case v.Flocker != nil:
		if v.Flocker.DatasetName == "" && v.Flocker.DatasetUUID == "" {
			return field.ErrorList{field.Required(at.Child("flocker"), "one of datasetName and datasetUUID is required")}
		}
	}
	return nil
}

// descending wants a relative path that stays below where it starts.
func descending(p string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, noBacksteps(p, at)...)
}

func noBacksteps(p string, at *field.Path) field.ErrorList {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
		}
	}
	return nil
}

// ownPath is descending, and not one of the names beginning with .. that the node keeps for itself.
func ownPath(p string, at *field.Path) field.ErrorList {
	errs := descending(p, at)
	if strings.HasPrefix(p, "..") && p != ".." && !strings.HasPrefix(p, "../") {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}
