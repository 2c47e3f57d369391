// Package emptydir gives a pod an empty folder that lives as long as the pod: on the node's disk, or in memory.
package emptydir

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/volume"
)

// Type is the emptyDir volume type.
type Type struct{}

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~empty-dir" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.EmptyDir != nil }

// SetUp makes the folder, world-writable as upstream does, and mounts a tmpfs on it for medium Memory. A size limit
// bounds a tmpfs; on disk it is the node's eviction that enforces it.
func (Type) SetUp(_ context.Context, r volume.Request) (string, error) {
	source := r.Volume.EmptyDir
	switch source.Medium {
	case corev1.StorageMediumDefault, corev1.StorageMediumMemory:
	default:
		return "", fmt.Errorf("emptyDir medium %q is not supported by this node", source.Medium)
	}
	_, err := os.Stat(r.Dir)
	fresh := err != nil
	if source.Medium == corev1.StorageMediumMemory {
		err = volume.MountMemory(r.Dir, size(r))
	} else {
		err = os.MkdirAll(r.Dir, 0o755)
	}
	if err != nil || !fresh {
		return r.Dir, err
	}
	if err := os.Chmod(r.Dir, 0o777); err != nil {
		return "", err
	}
	if g := r.FSGroup(); g != nil {
		if err := os.Chown(r.Dir, -1, int(*g)); err != nil {
			return "", err
		}
		if err := os.Chmod(r.Dir, 0o777|os.ModeSetgid); err != nil {
			return "", err
		}
	}
	return r.Dir, nil
}

// size bounds a tmpfs by the volume's limit, else by the memory limits of the pod's containers if all have one.
func size(r volume.Request) string {
	if l := r.Volume.EmptyDir.SizeLimit; l != nil && l.Value() > 0 {
		return fmt.Sprintf("size=%d", l.Value())
	}
	var sum int64
	for i := range r.Pod.Spec.Containers {
		q, ok := r.Pod.Spec.Containers[i].Resources.Limits[corev1.ResourceMemory]
		if !ok {
			return ""
		}
		sum += q.Value()
	}
	return fmt.Sprintf("size=%d", sum)
}
