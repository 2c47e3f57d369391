package volume

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SmallMemory bounds the tmpfs of a volume that holds API objects; the API stores none larger than 1.5 MB.
const SmallMemory = "size=16m"

// MountMemory makes dir and mounts a tmpfs on it unless that has been done, so that what is written there never
// reaches a disk. options are the kernel's, such as size=64m.
func MountMemory(dir, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	mounted, err := isMountPoint(dir)
	if err != nil || mounted && st.Type == unix.TMPFS_MAGIC {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// isMountPoint compares the device of a folder with its parent's.
func isMountPoint(dir string) (bool, error) {
	var self, parent unix.Stat_t
	if err := unix.Lstat(dir, &self); err != nil {
		return false, err
	}
	if err := unix.Lstat(dir+"/..", &parent); err != nil {
		return false, err
	}
	return self.Dev != parent.Dev, nil
}
