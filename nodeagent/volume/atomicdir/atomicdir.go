// Package atomicdir writes a set of files so that a reader sees either all of the old ones or all of the new ones.
//
// The folder holds one subfolder per generation, a link ..data to the current one, and for every file a link through
// ..data. A new generation is written beside the old one and then ..data is swapped by rename, which is atomic. The
// names and the scheme are upstream's, because programs watch for the swap of ..data.
package atomicdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	dataLink = "..data"
	tmpLink  = "..data_tmp"
)

// File is one file of the set.
type File struct {
	Data  []byte
	Mode  os.FileMode
	Owner *int64 // user id; nil: root
}

// Write makes dir contain exactly files, by path relative to dir. It says whether anything had to change. group, if
// given, owns everything and may read it.
func Write(dir string, files map[string]File, group *int64) (bool, error) {
	for path := range files {
		if err := checkPath(path); err != nil {
			return false, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return false, err
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if old != "" && same(filepath.Join(dir, old), files) && linked(dir, files) {
		return false, nil
	}
	next, err := generation(dir, files, group)
	if err != nil {
		return false, err
	}
	if err := swap(dir, filepath.Base(next)); err != nil {
		return false, errors.Join(err, os.RemoveAll(next))
	}
	if err := link(dir, files); err != nil {
		return false, err
	}
	if err := unlink(dir, files); err != nil {
		return false, err
	}
	if old != "" && old != filepath.Base(next) {
		return true, os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return true, nil
}

// checkPath refuses paths that leave the folder or clash with its own names.
func checkPath(p string) error {
	switch {
	case p == "" || filepath.IsAbs(p) || filepath.Clean(p) != p:
		return fmt.Errorf("invalid path %q in volume", p)
	case !filepath.IsLocal(p) || strings.HasPrefix(p, ".."):
		return fmt.Errorf("path %q in volume must not start with '..'", p)
	}
	return nil
}

// same says whether a generation holds exactly these files.
func same(dir string, files map[string]File) bool {
	count := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		want, ok := files[rel]
		if !ok {
			return fs.ErrInvalid
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, want.Data) {
			return fs.ErrInvalid
		}
		count++
		return nil
	})
	return err == nil && count == len(files)
}

// linked says whether every file can be reached, which is not so after a crash between swap and link.
func linked(dir string, files map[string]File) bool {
	for p := range files {
		if _, err := os.Stat(filepath.Join(dir, p)); err != nil {
			return false
		}
	}
	return true
}

// generation writes the files into a new subfolder and returns its path.
func generation(dir string, files map[string]File, group *int64) (string, error) {
	next, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return "", err
	}
	if err := os.Chmod(next, 0o755); err != nil {
		return "", err
	}
	for p, f := range files {
		if err := writeFile(filepath.Join(next, p), f, group); err != nil {
			return "", errors.Join(fmt.Errorf("write %s: %w", p, err), os.RemoveAll(next))
		}
	}
	if group != nil {
		err = filepath.WalkDir(next, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if err := os.Chown(p, -1, int(*group)); err != nil {
				return err
			}
			return os.Chmod(p, 0o775|os.ModeSetgid)
		})
	}
	return next, err
}

func writeFile(path string, f File, group *int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.Data, f.Mode.Perm()); err != nil {
		return err
	}
	mode := f.Mode.Perm()
	uid, gid := -1, -1
	if f.Owner != nil {
		uid = int(*f.Owner)
	}
	if group != nil {
		gid = int(*group)
		mode |= 0o440
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

func swap(dir, next string) error {
	tmp := filepath.Join(dir, tmpLink)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(next, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, dataLink))
}

// link makes the visible names: one link per top-level name.
func link(dir string, files map[string]File) error {
	for p := range files {
		top, _, _ := strings.Cut(p, "/")
		name := filepath.Join(dir, top)
		if _, err := os.Readlink(name); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, top), name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// unlink removes visible names that no longer lead anywhere.
func unlink(dir string, files map[string]File) error {
	keep := map[string]bool{}
	for p := range files {
		top, _, _ := strings.Cut(p, "/")
		keep[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") || keep[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
