// Package volume sets up the volumes of a pod on disk and takes them down. Each type of volume has a folder of its
// own; Set knows them as one ordered list and picks the first that handles a volume. A volume that none handles is an
// error that names its type, never silently left out. A claim stands for the volume that it is bound to.
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
	Pod      *corev1.Pod
	Volume   *corev1.Volume                // of a claim: with the source of the volume that it is bound to, where pods have such a source too
	PV       *corev1.PersistentVolume      // nil if the pod names the source itself
	Claim    *corev1.PersistentVolumeClaim // that is bound to PV
	ReadOnly bool
	Block    bool   // a device is wanted, not a folder
	Dir      string // the volume's own folder; it exists only if the type makes it
}

// FSGroup is the group that must be able to use the volume, nil if none is asked for.
func (r Request) FSGroup() *int64 {
	if s := r.Pod.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// OnRootMismatch says whether the volume's files are given to the fsGroup only if its root is not the group's already.
func (r Request) OnRootMismatch() bool {
	s := r.Pod.Spec.SecurityContext
	return s != nil && s.FSGroupChangePolicy != nil && *s.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch
}

// Type is one kind of volume.
type Type interface {
	// Name is the folder name that upstream uses for the type, such as kubernetes.io~empty-dir.
	Name() string
	// Handles says whether the volume is of this type.
	Handles(r Request) bool
	// SetUp makes the volume usable and returns the host path to mount. It may be called again.
	SetUp(ctx context.Context, r Request) (string, error)
}

// Ender is a type that has more to do at the end than to unmount what is below the volume's folder.
type Ender interface {
	// TearDown takes down the volume at dir. It may be called again.
	TearDown(ctx context.Context, uid types.UID, dir string) error
}

// Set is the volume types of a node with the place where volumes live.
type Set struct {
	root   string // such as /var/lib/kubelet
	types  []Type
	claims Claims
}

// NewSet returns a set that keeps volumes below root/pods. Without claims, pods with persistentVolumeClaims are refused.
func NewSet(root string, claims Claims, types ...Type) *Set { return &Set{root, types, claims} }

// PodDir is the folder of a pod.
func (s *Set) PodDir(uid types.UID) string { return filepath.Join(s.root, "pods", string(uid)) }

// SetUp sets up all volumes of the pod and returns their host paths by volume name. The error joins what went wrong
// with each.
func (s *Set) SetUp(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	paths := map[string]string{}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		path, err := s.setUp(ctx, pod, v)
		if err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			continue
		}
		paths[v.Name] = path
	}
	return paths, errors.Join(errs...)
}

func (s *Set) setUp(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	r, err := s.resolve(ctx, pod, v)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(s.types, func(t Type) bool { return t.Handles(r) })
	if i < 0 {
		return "", unsupported(r)
	}
	name := v.Name
	if r.PV != nil {
		name = r.PV.Name
	}
	r.Dir = filepath.Join(s.PodDir(pod.UID), "volumes", s.types[i].Name(), name)
	return s.types[i].SetUp(ctx, r)
}

// unsupported names the type of a volume, and the way that is left where upstream has dropped the type too.
func unsupported(r Request) error {
	name := TypeName(r.Volume)
	if r.PV != nil {
		name = sourceName(reflect.ValueOf(r.PV.Spec.PersistentVolumeSource))
	}
	if slices.Contains(movedToCSI, name) {
		return fmt.Errorf("volume type %s is not built in any more: install its CSI driver and use a csi volume or claim", name)
	}
	return fmt.Errorf("volume type %s is not supported by this node", name)
}

// movedToCSI are types that Kubernetes has given to drivers.
var movedToCSI = []string{
	"awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "flexVolume", "flocker", "gcePersistentDisk", "glusterfs",
	"photonPersistentDisk", "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume", "iscsi", "fc",
}

// TypeName is the API name of a volume's type, such as persistentVolumeClaim.
func TypeName(v *corev1.Volume) string { return sourceName(reflect.ValueOf(v.VolumeSource)) }

func sourceName(source reflect.Value) string {
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

// TearDown takes all volumes of a pod down: what their types have to do, then every mount below the pod's volume folder,
// then the folder. While anything is still mounted there nothing is removed.
func (s *Set) TearDown(ctx context.Context, uid types.UID) error {
	dir := filepath.Join(s.PodDir(uid), "volumes")
	var errs []error
	for _, t := range s.types {
		end, ok := t.(Ender)
		if !ok {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(dir, t.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			at := filepath.Join(dir, t.Name(), e.Name())
			if err := end.TearDown(ctx, uid, at); err != nil {
				errs = append(errs, fmt.Errorf("take down volume %s: %w", at, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := Unmount(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Remove removes the pod's whole folder. TearDown comes first: while anything is mounted there, it is an error.
func (s *Set) Remove(uid types.UID) error {
	mounts, err := MountsBelow(s.PodDir(uid))
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("remove folder of pod %s: %s is still mounted", uid, mounts[0])
	}
	return os.RemoveAll(s.PodDir(uid))
}

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

// Unmount unmounts every mount at or below dir, deepest first. When it returns without error there is none left.
func Unmount(dir string) error {
	for range 3 {
		points, err := MountsBelow(dir)
		if err != nil || len(points) == 0 {
			return err
		}
		for _, p := range points {
			if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
	}
	return fmt.Errorf("unmount %s: mounts keep coming back", dir)
}

// MountsBelow lists the mount points at or below dir, deepest first.
func MountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
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
	return points, nil
}

// Mounted says whether dir is a mount point.
func Mounted(dir string) (bool, error) {
	points, err := MountsBelow(dir)
	return slices.Contains(points, dir), err
}

// unescape undoes the kernel's octal escapes of blanks in mount points.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Own gives a tree to the fsGroup: the group owns it, may read and write, and new files inherit the group. With
// readOnly the group may only read. Links are not followed.
//
// With onMismatch the tree is left alone when its root belongs to the group already.
func Own(path string, group int64, readOnly, onMismatch bool) error {
	if onMismatch {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil && int64(st.Gid) == group && st.Mode&unix.S_ISGID != 0 && st.Mode&0o070 == 0o070 {
			return nil
		}
	}
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
