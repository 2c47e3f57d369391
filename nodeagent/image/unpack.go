package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// unpack writes the archive r of one layer into the folder dir and returns how many bytes of file content it had.
// Every path is walked as if dir were the root of the file system, so neither "..", nor links, nor the order of entries
// leads out of it.
func unpack(r io.Reader, dir string) (int64, error) {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	u := &unpacker{root: root}
	defer u.forget()
	var size int64
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return size, u.finish()
		}
		if err != nil {
			return 0, fmt.Errorf("read archive: %w", err)
		}
		n, err := u.entry(h, tr)
		if err != nil {
			return 0, fmt.Errorf("unpack %q: %w", h.Name, err)
		}
		size += n
	}
}

type unpacker struct {
	root   *os.File
	parent *os.File // the folder of the previous entry, since entries come folder by folder
	name   string   // and its path
	dirs   []*tar.Header
}

// Whiteouts of the OCI image format.
const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// entry creates what one header describes.
func (u *unpacker) entry(h *tar.Header, content io.Reader) (int64, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return 0, nil
	}
	full := path.Clean("/" + h.Name)
	if full == "/" {
		if h.Typeflag == tar.TypeDir {
			u.dirs = append(u.dirs, h)
		}
		return 0, nil
	}
	dir, base := path.Split(full)
	parent, err := u.folder(dir)
	if err != nil {
		return 0, err
	}
	at := int(parent.Fd())
	if strings.HasPrefix(base, whiteout) {
		return 0, u.hide(at, base)
	}
	if err := u.clear(at, base, h.Typeflag == tar.TypeDir); err != nil {
		return 0, err
	}
	return u.create(at, base, h, content)
}

// folder opens (and makes, where missing) the folder at a path of the layer.
func (u *unpacker) folder(dir string) (*os.File, error) {
	if u.parent != nil && u.name == dir {
		return u.parent, nil
	}
	u.forget()
	f, err := pathrs.MkdirAllHandle(u.root, dir, 0o755)
	if err != nil {
		return nil, err
	}
	u.parent, u.name = f, dir
	return f, nil
}

// forget drops the remembered folder. Going to another folder does so, and only from another folder can one on the way
// to it be replaced.
func (u *unpacker) forget() {
	if u.parent != nil {
		u.parent.Close()
		u.parent = nil
	}
}

// hide turns a whiteout into its overlay form: a character device 0:0 in place of the hidden name, or a mark on the
// folder that hides everything below.
func (u *unpacker) hide(at int, base string) error {
	if base == whiteoutOpaque {
		return unix.Setxattr(fdPath(at), "trusted.overlay.opaque", []byte("y"), 0)
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // bookkeeping of AUFS
	}
	name := strings.TrimPrefix(base, whiteout)
	if name == "" || name == "." || name == ".." {
		return errors.New("invalid whiteout")
	}
	if err := u.clear(at, name, false); err != nil {
		return err
	}
	return unix.Mknodat(at, name, unix.S_IFCHR, 0)
}

// clear removes what is in the way of a new entry. A folder stays for a folder.
func (u *unpacker) clear(at int, base string, forDir bool) error {
	var st unix.Stat_t
	err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && forDir {
		return nil
	}
	if !isDir {
		return unix.Unlinkat(at, base, 0)
	}
	// RemoveAll does not follow links; base is a plain name in a folder that is held open.
	return os.RemoveAll(path.Join(fdPath(at), base))
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// create makes one file system object named base in the folder at.
func (u *unpacker) create(at int, base string, h *tar.Header, content io.Reader) (int64, error) {
	switch h.Typeflag {
	case tar.TypeReg:
		return h.Size, writeFile(at, base, h, content)
	case tar.TypeDir:
		if err := unix.Mkdirat(at, base, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return 0, err
		}
		u.dirs = append(u.dirs, h)
		return 0, nil
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, at, base); err != nil {
			return 0, err
		}
		if err := unix.Fchownat(at, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, err
		}
		return 0, unix.UtimesNanoAt(at, base, times(h), unix.AT_SYMLINK_NOFOLLOW)
	case tar.TypeLink:
		return 0, u.link(at, base, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return 0, node(at, base, h)
	}
	return 0, fmt.Errorf("unsupported kind of entry %q", h.Typeflag)
}

func writeFile(at int, base string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(at, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := attributes(fdPath(fd), h); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times(h), 0)
}

// link makes a hard link to another entry of the same layer.
func (u *unpacker) link(at int, base string, h *tar.Header) error {
	dir, target := path.Split(path.Clean("/" + h.Linkname))
	if target == "" {
		return errors.New("hard link to the root")
	}
	from, err := pathrs.OpenatInRoot(u.root, dir)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	defer from.Close()
	if err := unix.Linkat(int(from.Fd()), target, at, base, 0); err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	return nil
}

// node makes a device or a named pipe. A device in an image opens nothing: whether a container may use it is decided by
// its device cgroup, and nobody else can reach the store.
func node(at int, base string, h *tar.Header) error {
	mode, dev := uint32(unix.S_IFIFO), 0
	switch h.Typeflag {
	case tar.TypeChar:
		mode, dev = unix.S_IFCHR, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	case tar.TypeBlock:
		mode, dev = unix.S_IFBLK, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	if err := unix.Mknodat(at, base, mode, dev); err != nil {
		return err
	}
	if err := unix.Fchownat(at, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// Nothing can have replaced it: the folder is private to this process.
	return unix.Fchmodat(at, base, permissions(h), 0)
}

// finish sets what making the entries below a folder would have changed again.
func (u *unpacker) finish() error {
	u.forget()
	for _, h := range slices.Backward(u.dirs) {
		f, err := pathrs.OpenatInRoot(u.root, path.Clean("/"+h.Name))
		if errors.Is(err, unix.ENOENT) {
			continue // removed by a later entry
		}
		if err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
		st, err := f.Stat()
		if err == nil && st.IsDir() {
			err = errors.Join(attributes(fdPath(int(f.Fd())), h), unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(int(f.Fd())), times(h), 0))
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	return nil
}

// attributes sets owner, mode and extended attributes, in this order: changing the owner clears the others.
func attributes(file string, h *tar.Header) error {
	if err := unix.Chown(file, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := unix.Chmod(file, permissions(h)); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		// Others, above all trusted.overlay.*, would let an image steer the overlay mount.
		if !ok || name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		if err := unix.Setxattr(file, name, []byte(v), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

func permissions(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

func times(h *tar.Header) []unix.Timespec {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	if h.ModTime.IsZero() || h.ModTime.Unix() == 0 {
		t = unix.Timespec{}
	}
	return []unix.Timespec{t, t}
}
