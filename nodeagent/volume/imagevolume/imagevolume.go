// Package imagevolume shows the files of an image as a read-only volume (KEP-4639). The image's layers stay on the node
// for as long as the volume does.
package imagevolume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/volume"
)

// Prefix begins the names under which volumes hold on to images.
const Prefix = "volume-"

// Images is the node's image store.
type Images interface {
	// Pull makes the image present, by the policy, for a volume of the pod, and returns its id.
	Pull(ctx context.Context, pod *corev1.Pod, volume, ref string, policy corev1.PullPolicy) (id string, err error)
	// Use keeps the image's layers until Release and returns their folders, topmost first.
	Use(id, holder string) ([]string, error)
	Release(holder string) error
}

// Type is the image volume type.
type Type struct{ Images Images }

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~image" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.Image != nil }

// SetUp pulls the image and mounts it. Once mounted it stays as it is, whatever its name comes to mean.
func (t Type) SetUp(ctx context.Context, r volume.Request) (string, error) {
	if mounted, err := volume.Mounted(r.Dir); err != nil || mounted {
		return r.Dir, err
	}
	source := r.Volume.Image
	if source.Reference == "" {
		return "", fmt.Errorf("image volume names no image")
	}
	id, err := t.Images.Pull(ctx, r.Pod, r.Volume.Name, source.Reference, source.PullPolicy)
	if err != nil {
		return "", err
	}
	layers, err := t.Images.Use(id, holder(r.Pod.UID, r.Volume.Name))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return "", err
	}
	return r.Dir, mount(r.Dir, layers)
}

// mount shows the layers at dir. Overlayfs takes no single layer, so an empty one, which is dir itself, goes below.
func mount(dir string, layers []string) error {
	lower := strings.Join(append(append([]string{}, layers...), dir), ":")
	const flags = unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	if len(lower) > unix.Getpagesize()-64 {
		return fmt.Errorf("mount image: its %d layers are too many for one mount", len(layers))
	}
	if err := unix.Mount("overlay", dir, "overlay", flags, "lowerdir="+lower); err != nil {
		return fmt.Errorf("mount image: %w", err)
	}
	return nil
}

// TearDown implements volume.Ender.
func (t Type) TearDown(_ context.Context, uid types.UID, dir string) error {
	if err := volume.Unmount(dir); err != nil {
		return err
	}
	return t.Images.Release(holder(uid, filepath.Base(dir)))
}

func holder(uid types.UID, volume string) string { return Prefix + string(uid) + "-" + volume }
