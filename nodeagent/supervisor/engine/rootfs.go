package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMountData is how long the options of mount(2) may be: a page, less the final zero.
const maxMountData = 4095

// mountRoot mounts the layers with a writable one on top and returns the mount point.
func (e *Engine) mountRoot(id string, layers []string) (string, error) {
	root := e.rootDir(id)
	upper, work := filepath.Join(e.Data, id, "upper"), filepath.Join(e.Data, id, "work")
	for _, d := range []string{root, upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", fmt.Errorf("root file system: %w", err)
		}
	}
	if len(layers) == 0 { // an image without layers is an empty root
		empty := filepath.Join(e.Data, id, "empty")
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return "", fmt.Errorf("root file system: %w", err)
		}
		layers = []string{empty}
	}
	if err := mountOverlay(root, layers, upper, work); err != nil {
		return "", fmt.Errorf("root file system: %w", err)
	}
	return root, nil
}

func (e *Engine) rootDir(id string) string { return filepath.Join(e.Dir, "rootfs", id) }

// mountOverlay mounts with "volatile" where the kernel knows it: the writable layer never outlives the pod, so flushing
// the whole disk whenever a container ends would be waste.
func mountOverlay(target string, lowers []string, upper, work string) error {
	lower, done, err := lowerDirs(lowers, maxMountData-len(upper)-len(work)-100)
	if err != nil {
		return err
	}
	defer done()
	data := "lowerdir=" + lower + ",upperdir=" + escape(upper) + ",workdir=" + escape(work) + ",index=off"
	err = unix.Mount("overlay", target, "overlay", 0, data+",volatile")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", target, "overlay", 0, data)
	}
	if err != nil {
		return fmt.Errorf("mount overlay of %d layers on %s: %w", len(lowers), target, err)
	}
	return nil
}

// lowerDirs joins the layer folders for the lowerdir option. When that would be longer than limit it names them by
// descriptors instead, which stay open until done is called.
func lowerDirs(dirs []string, limit int) (joined string, done func(), err error) {
	done = func() {}
	names := make([]string, len(dirs))
	for i, d := range dirs {
		names[i] = escape(d)
	}
	if joined = strings.Join(names, ":"); len(joined) <= limit {
		return joined, done, nil
	}
	var open []*os.File
	done = func() {
		for _, f := range open {
			f.Close()
		}
	}
	for i, d := range dirs {
		f, err := os.OpenFile(d, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			done()
			return "", nil, fmt.Errorf("open layer: %w", err)
		}
		open = append(open, f)
		names[i] = "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	}
	return strings.Join(names, ":"), done, nil
}

// escape protects the characters that separate overlayfs options.
func escape(p string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(p)
}

// unmountRoot undoes mountRoot; the writable layer stays until Discard.
func (e *Engine) unmountRoot(id string) error {
	root := e.rootDir(id)
	if err := unix.Unmount(root, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", root, err)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove mount point: %w", err)
	}
	return nil
}

// Discard removes the writable layer of a container that was destroyed.
func (e *Engine) Discard(id string) error {
	if err := os.RemoveAll(filepath.Join(e.Data, id)); err != nil {
		return fmt.Errorf("remove writable layer: %w", err)
	}
	return nil
}
