package binder

import (
	"errors"
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Provisioner is the name by which a StorageClass asks for folders of nodes.
const Provisioner = "hardway/node-local"

// folders is where the volumes of a node are, unless the class has a parameter "path".
const folders = "/var/lib/hardway/volumes"

// localVolume is a folder of a node as a volume. The node agent of that node makes the folder when a pod first uses it,
// so nothing but the API is written here.
func localVolume(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) (*corev1.PersistentVolume, error) {
	base, err := localPath(c, class)
	if err != nil {
		return nil, err
	}
	host := node.Labels[corev1.LabelHostname]
	if host == "" {
		return nil, fmt.Errorf("node %s has no label %s to tie a volume to", node.Name, corev1.LabelHostname)
	}
	name := "pvc-" + string(c.UID)
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: Provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: c.Spec.AccessModes, VolumeMode: c.Spec.VolumeMode, StorageClassName: class.Name,
			PersistentVolumeReclaimPolicy: or(class.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete),
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{
				Path: path.Join(base, name), Type: new(corev1.HostPathDirectoryOrCreate),
			}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}},
			}}}},
		},
	}
	reserve(v, c)
	return v, nil
}

// localPath checks what the class and the claim ask for, and returns the folder of all volumes.
func localPath(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (string, error) {
	base := folders
	for key, value := range class.Parameters {
		if key != "path" {
			return "", fmt.Errorf("storage class %s: parameter %q is unknown; there is \"path\"", class.Name, key)
		}
		if !path.IsAbs(value) || path.Clean(value) == "/" {
			return "", fmt.Errorf("storage class %s: parameter path: %q is not an absolute path below /", class.Name, value)
		}
		base = path.Clean(value)
	}
	switch {
	case len(class.MountOptions) > 0:
		return "", fmt.Errorf("storage class %s: folders of a node have no mountOptions", class.Name)
	case or(c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) != corev1.PersistentVolumeFilesystem:
		return "", errors.New("folders of a node are no block devices")
	case c.Spec.Selector != nil:
		return "", errors.New("claim.Spec.Selector is not supported for dynamic provisioning")
	case c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil:
		return "", errors.New("folders of a node begin empty: dataSource is not supported")
	}
	return base, nil
}

// IsLocal says whether a volume is a folder of a node that was made for a claim.
func IsLocal(v *corev1.PersistentVolume) bool {
	return v.Annotations[provisionedBy] == Provisioner && v.Spec.HostPath != nil
}
