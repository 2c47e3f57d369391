// Package volume sets up the volumes of a pod on disk and takes them down. Each type of volume has a folder of its
// own; Set knows them as one ordered list and picks the first that handles a volume. A volume that none handles is an
// error that names its type, never silently left out.
//
// Reads: the pod, referenced API objects, the folder of the pod below the root directory. Writes: that folder and
// mounts in it. Set up may be repeated at any time and brings content up to date; taking down finds what is there by
// looking at the disk, so it needs no memory of what was set up.
package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Request is one volume to be set up.
type Request struct {
	Pod    *corev1.Pod
	Volume *corev1.Volume
	Dir    string // the volume's own folder; it exists only if the type makes it
}

// FSGroup is the group that must be able to use the volume, nil if none is asked for.
func (r Request) FSGroup() *int64 {
	if s := r.Pod.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// Type is one kind of volume.
type Type interface {
	// Name is the folder name that upstream uses for the type, such as kubernetes.io~empty-dir.
	Name() string
	// Handles says whether the volume is of this type.
	Handles(v *corev1.Volume) bool
	// SetUp makes the volume usable and returns the host path to mount. It may be called again.
	SetUp(ctx context.Context, r Request) (string, error)
}

// Set is the volume types of a node with the place where volumes live.
type Set struct {
	root  string // such as /var/lib/kubelet
	types []Type
}

// NewSet returns a set that keeps volumes below root/pods.
func NewSet(root string, types ...Type) *Set { return &Set{root, types} }

// PodDir is the folder of a pod.
func (s *Set) PodDir(uid types.UID) string { return filepath.Join(s.root, "pods", string(uid)) }

// SetUp sets up all volumes of the pod and returns their host paths by volume name. The error joins what went wrong
// with each.
func (s *Set) SetUp(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	paths := map[string]string{}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		t, err := s.typeOf(v)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		dir := filepath.Join(s.PodDir(pod.UID), "volumes", t.Name(), v.Name)
		path, err := t.SetUp(ctx, Request{pod, v, dir})
		if err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			continue
		}
		paths[v.Name] = path
	}
	return paths, errors.Join(errs...)
}

// Check returns an error naming every volume of the pod whose type is not supported.
func (s *Set) Check(pod *corev1.Pod) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		if _, err := s.typeOf(&pod.Spec.Volumes[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Set) typeOf(v *corev1.Volume) (Type, error) {
	i := slices.IndexFunc(s.types, func(t Type) bool { return t.Handles(v) })
	if i < 0 {
		return nil, fmt.Errorf("volume %q: type %s is not supported by this node", v.Name, TypeName(v))
	}
	return s.types[i], nil
}

// TypeName is the API name of a volume's type, such as persistentVolumeClaim.
func TypeName(v *corev1.Volume) string {
	source := reflect.ValueOf(v.VolumeSource)
	for i := range source.NumField() {
		if !source.Field(i).IsNil() {
			name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return "unknown"
}

// Exists says whether anything of the pod's volumes may be on disk.
func (s *Set) Exists(uid types.UID) bool {
	_, err := os.Stat(filepath.Join(s.PodDir(uid), "volumes"))
	return err == nil
}

// TearDown unmounts everything below the pod's volume folder and removes it.
func (s *Set) TearDown(uid types.UID) error {
	dir := filepath.Join(s.PodDir(uid), "volumes")
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Remove removes the pod's whole folder. TearDown comes first.
func (s *Set) Remove(uid types.UID) error { return os.RemoveAll(s.PodDir(uid)) }

// Orphans lists pods that have a folder.
func (s *Set) Orphans() ([]types.UID, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "pods"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []types.UID
	for _, e := range entries {
		out = append(out, types.UID(e.Name()))
	}
	return out, err
}

// unmountBelow unmounts every mount at or below dir, deepest first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		p := unescape(f[4])
		if p == dir || strings.HasPrefix(p, dir+"/") {
			points = append(points, p)
		}
	}
	slices.SortFunc(points, func(a, b string) int { return len(b) - len(a) })
	for _, p := range points {
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// unescape undoes the kernel's octal escapes of blanks in mount points.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Own gives a tree to the fsGroup: the group owns it, may read and write, and new files inherit the group. With
// readOnly the group may only read. Links are not followed.
func Own(path string, group int64, readOnly bool) error {
	return filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(p, -1, int(group)); err != nil {
			return err
		}
		if d.Type()&os.ModeSymlink != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		add := os.FileMode(0o660)
		if readOnly {
			add = 0o440
		}
		mode := info.Mode().Perm() | add
		if d.IsDir() {
			return os.Chmod(p, mode|0o110|os.ModeSetgid)
		}
		return os.Chmod(p, mode)
	})
}
