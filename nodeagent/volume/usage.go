package volume

import (
	"context"
	"io/fs"
	"path/filepath"
	"syscall"
)

// Usage is what a tree of files takes of its file system.
type Usage struct{ Bytes, Inodes int64 }

// DiskUsage measures the tree at path without leaving its file system and without following links. A file with several
// names counts once. What cannot be read, or vanishes meanwhile, is left out; when ctx ends, so is the rest.
func DiskUsage(ctx context.Context, path string) Usage {
	var u Usage
	var device uint64
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error { // no error comes out of it
		if ctx.Err() != nil {
			return fs.SkipAll
		}
		if err != nil {
			return nil //nolint:nilerr // left out
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // left out
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
			return nil
		case p == path:
			device = st.Dev
		case st.Dev != device:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		u.Bytes += st.Blocks * 512
		u.Inodes++
		return nil
	})
	return u
}
