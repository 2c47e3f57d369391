package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// archive gives random access to the regular files of a plain tar file. Nothing is extracted; links inside it are
// names of other entries and lead nowhere else.
type archive struct {
	file    *os.File
	entries map[string]extent
	links   map[string]string
}

type extent struct{ offset, size int64 }

const (
	maxDocument = 16 << 20 // bytes of a JSON document in an archive
	maxLinks    = 8        // links followed from one name
)

// openArchive reads the table of contents of the file at name. A compressed one is first unpacked into tmp.
func openArchive(ctx context.Context, name, tmp string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if f, err = plainFile(ctx, f, tmp); err != nil {
		return nil, err
	}
	a := &archive{file: f, entries: map[string]extent{}, links: map[string]string{}}
	if err := a.scan(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// plainFile returns f, or a decompressed copy of it, to be read from its start. f is closed if it is not returned.
func plainFile(ctx context.Context, f *os.File, tmp string) (*os.File, error) {
	r, packed, err := decompress(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	defer r.Close()
	if !packed {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	defer f.Close()
	out, err := os.CreateTemp(tmp, "archive-")
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(out, &contextReader{ctx, r}); err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return out, nil
}

// scan notes where every file lies. Since the file can seek, the content between headers is not read.
func (a *archive) scan(ctx context.Context) error {
	tr := tar.NewReader(a.file)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.entries[name] = extent{at, h.Size}
		case tar.TypeSymlink:
			a.links[name] = clean(path.Join(path.Dir(h.Name), h.Linkname))
		case tar.TypeLink:
			a.links[name] = clean(h.Linkname)
		}
	}
}

// clean makes names comparable: no leading "./" or "/", no way upwards.
func clean(name string) string { return path.Clean("/" + name)[1:] }

// open returns the content of the entry called name.
func (a *archive) open(name string) (io.ReadCloser, error) {
	name = clean(name)
	for range maxLinks {
		if e, ok := a.entries[name]; ok {
			return io.NopCloser(io.NewSectionReader(a.file, e.offset, e.size)), nil
		}
		to, ok := a.links[name]
		if !ok {
			break
		}
		name = to
	}
	return nil, fmt.Errorf("archive has no file %q: %w", name, os.ErrNotExist)
}

// read returns a small document whole.
func (a *archive) read(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		err = errors.New("too long")
	}
	if err != nil {
		return nil, fmt.Errorf("read %q from archive: %w", name, err)
	}
	return b, nil
}

func (a *archive) opener(name string) opener {
	return func(context.Context) (io.ReadCloser, error) { return a.open(name) }
}
