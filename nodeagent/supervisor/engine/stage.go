package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
)

// stageMounts finds what the bind mounts of a container mean, once and for all. Their sources are opened in the mount
// namespace of the host, because the host may have mounted something there since this process got its copy of the
// mounts; a SubPath is walked without ever leaving its source, because a container could turn it into a link to the
// host. What was found is cloned by descriptor and attached below the pod's folder; the returned mounts name that
// place. unstageMounts takes it down when the container has its own copies.
func (e *Engine) stageMounts(id string, mounts []container.Mount) ([]container.Mount, error) {
	mounts = slices.Clone(mounts)
	trees, err := e.openTrees(mounts)
	defer func() {
		for _, t := range trees {
			if t != nil {
				t.Close()
			}
		}
	}()
	if err != nil || len(mounts) == 0 {
		return mounts, err
	}
	dir := e.stageDir(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("stage", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700,size=64k"); err != nil {
		return nil, fmt.Errorf("stage mounts: %w", err)
	}
	for i, t := range trees {
		if t == nil {
			continue
		}
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := attachTree(t, at); err != nil {
			e.unstageMounts(id)
			return nil, fmt.Errorf("mount %s: %w", mounts[i].Target, err)
		}
		mounts[i].Source, mounts[i].SubPath = at, ""
	}
	return mounts, nil
}

func (e *Engine) stageDir(id string) string { return filepath.Join(e.Dir, "stage", id) }

// openTrees clones the source of every bind mount; the place of a tmpfs stays nil.
func (e *Engine) openTrees(mounts []container.Mount) ([]*os.File, error) {
	trees := make([]*os.File, len(mounts))
	if !slices.ContainsFunc(mounts, isBind) {
		return trees, nil
	}
	return trees, e.inHostMounts(func() error {
		for i, m := range mounts {
			if !isBind(m) {
				continue
			}
			var err error
			if trees[i], err = openTree(m); err != nil {
				return fmt.Errorf("mount %s: %w", m.Target, err)
			}
		}
		return nil
	})
}

func isBind(m container.Mount) bool { return m.Source != "tmpfs" }

// openTree opens m.Source, walks m.SubPath without ever leaving it, and clones what it finds as a detached mount.
func openTree(m container.Mount) (*os.File, error) {
	f, err := os.OpenFile(m.Source, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if m.SubPath != "" {
		sub, err := pathrs.OpenatInRoot(f, m.SubPath)
		if errors.Is(err, os.ErrNotExist) {
			sub, err = pathrs.MkdirAllHandle(f, m.SubPath, 0o755)
		}
		if err != nil {
			return nil, fmt.Errorf("subPath %q of %s: %w", m.SubPath, m.Source, err)
		}
		defer sub.Close()
		f = sub
	}
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("clone mount of %s: %w", m.Source, err)
	}
	return os.NewFile(uintptr(fd), m.Source), nil
}

// attachTree gives a detached mount a name.
func attachTree(tree *os.File, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.Mkdir(at, 0o700); err != nil {
			return err
		}
	} else if err := os.WriteFile(at, nil, 0o600); err != nil {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// inHostMounts runs f on a thread of its own inside the host's mount namespace. The thread ends with f, so nothing else
// can ever run there.
func (e *Engine) inHostMounts(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with this goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		if err := unix.Setns(int(e.HostMnt.Fd()), unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("enter the host's mount namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// unstageMounts undoes stageMounts. The trees are made private first: else unmounting a shared one would take down the
// host's own mounts below it. What cannot be unmounted ends with this process's mount namespace.
func (e *Engine) unstageMounts(id string) {
	dir := e.stageDir(id)
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE|unix.MS_REC, ""); err == nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
	os.Remove(dir)
}
