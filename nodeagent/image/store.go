package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Image is one image of this node.
type Image struct {
	ID     string    // digest of its configuration, "sha256:..."
	Refs   []string  // canonical names, sorted; those with a digest come from pulls
	Size   int64     // bytes of its unpacked layers
	Config v1.Config // entrypoint, cmd, env, user, workdir, stopsignal, volumes
	Digest string    // of its manifest, if that is known

	CreatedAt time.Time
	Layers    []string // digests of the unpacked layers, lowest first
}

// ErrNotFound says that the store has no such image.
var ErrNotFound = errors.New("no such image")

// Options change how a Store pulls. The zero value pulls from where references say.
type Options struct {
	// Mirrors are tried in order before a registry itself, such as {"docker.io": {"https://mirror.example"}}. "*" is for
	// every registry without an entry. Credentials are never sent to a mirror.
	Mirrors map[string][]string
	// HostsDir holds <registry>/hosts.toml files, see hosts.go. One for a registry wins over Mirrors.
	HostsDir string
	// Plain lists registries ("host:port") that speak HTTP without TLS. Those on localhost need no entry.
	Plain []string
}

// Store is the images of one node. Several processes may use one folder.
type Store struct {
	dir  string
	opts Options
	work chan struct{} // slots for layers being fetched and unpacked

	layers flights[int64] // by layer digest
	pulls  flights[Image] // by reference and credentials

	mu     sync.Mutex // guards what follows
	index  index
	loaded fs.FileInfo // of the index file that index was read from
}

type index struct{ Images []Image }

// maxParallelLayers bounds how many layers are unpacked at once; more wait.
const maxParallelLayers = 4

// Open opens the store in dir, making it if need be, and throws away what a crash left half done.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, opts: o, work: make(chan struct{}, maxParallelLayers)}
	for _, d := range []string{"layers", "leases", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if err := s.refresh(); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, s.clean()
}

// clean empties tmp/, except for what another living process works on: each keeps its folder locked.
func (s *Store) clean() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	for _, e := range entries {
		p := filepath.Join(s.dir, "tmp", e.Name())
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(p)
		}
		f.Close()
	}
	return nil
}

// tempDir makes a folder below tmp/ that clean of another process leaves alone until done is called, which removes it.
func (s *Store) tempDir() (dir string, done func(), err error) {
	dir, err = os.MkdirTemp(filepath.Join(s.dir, "tmp"), "")
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir); f.Close() }, nil
}

// refresh reads the index again when another process changed it. Called with s.mu held, or before s is shared.
func (s *Store) refresh() error {
	path := filepath.Join(s.dir, "index.json")
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.index, s.loaded = index{}, nil
		return nil
	}
	if err != nil {
		return err
	}
	if s.loaded != nil && os.SameFile(st, s.loaded) && st.ModTime().Equal(s.loaded.ModTime()) {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var idx index
	if err := json.Unmarshal(b, &idx); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.index, s.loaded = idx, st
	return nil
}

// change runs f on the newest index and makes the result durable. No other process changes the store meanwhile.
func (s *Store) change(f func(*index) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.refresh(); err != nil {
		return err
	}
	next := index{Images: slices.Clone(s.index.Images)}
	if err := f(&next); err != nil {
		return err
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, "index.json")
	if err := writeDurably(path, b); err != nil {
		return err
	}
	s.index = next
	s.loaded, err = os.Stat(path)
	return err
}

func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return func() { f.Close() }, nil
}

// writeDurably replaces a file so that after a crash the old or the new content is there, whole.
func writeDurably(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// List returns every image, sorted by id.
func (s *Store) List() ([]Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	out := slices.Clone(s.index.Images)
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Get finds an image by id or by any reference that means it.
func (s *Store) Get(ref string) (Image, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return Image{}, false
	}
	i := s.index.find(ref)
	if i < 0 {
		return Image{}, false
	}
	return s.index.Images[i], true
}

// find returns the position of the image that ref means, or -1.
func (idx *index) find(ref string) int {
	if id, ok := parseID(ref); ok {
		return slices.IndexFunc(idx.Images, func(m Image) bool { return m.ID == id })
	}
	full, err := Normalize(ref)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(idx.Images, func(m Image) bool { return slices.Contains(m.Refs, full) })
}

// put adds an image, or further references to one that is there. References move away from other images.
func (idx *index) put(m Image) Image {
	for i := range idx.Images {
		o := &idx.Images[i]
		if o.ID == m.ID {
			m.Refs = slices.Concat(m.Refs, o.Refs)
			if m.Digest == "" {
				m.Digest = o.Digest
			}
			continue
		}
		o.Refs = slices.DeleteFunc(slices.Clone(o.Refs), func(r string) bool { return slices.Contains(m.Refs, r) })
	}
	slices.Sort(m.Refs)
	m.Refs = slices.Compact(m.Refs)
	idx.Images = slices.DeleteFunc(idx.Images, func(o Image) bool { return o.ID == m.ID })
	idx.Images = append(idx.Images, m)
	return m
}

// Remove takes away a reference. When it was the last one of its image, or ref is an id, the image goes, and with it
// the layers that no other image and no container uses.
func (s *Store) Remove(ref string) error {
	err := s.change(func(idx *index) error {
		i := idx.find(ref)
		if i < 0 {
			return ErrNotFound
		}
		m := idx.Images[i]
		if _, byID := parseID(ref); byID {
			m.Refs = nil
		} else {
			full, err := Normalize(ref)
			if err != nil {
				return err
			}
			m.Refs = slices.DeleteFunc(slices.Clone(m.Refs), func(r string) bool { return r == full })
			// A digest that only came along with the tag does not keep the image.
			if !slices.ContainsFunc(m.Refs, func(r string) bool { return !strings.Contains(r, "@") }) && !strings.Contains(full, "@") {
				m.Refs = nil
			}
		}
		if len(m.Refs) == 0 {
			idx.Images = slices.Delete(idx.Images, i, i+1)
		} else {
			idx.Images[i] = m
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return s.collect()
}

// Use notes that holder (a container id) uses an image and returns the folders of its layers, topmost first, which stay
// until Release.
func (s *Store) Use(id, holder string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.refresh(); err != nil {
		return nil, err
	}
	i := s.index.find(id)
	if i < 0 {
		return nil, fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	m := s.index.Images[i]
	b, err := json.Marshal(m.Layers)
	if err != nil {
		return nil, err
	}
	// Not flushed: after a power failure the container is gone too.
	if err := os.WriteFile(filepath.Join(s.dir, "leases", holder), b, 0o600); err != nil {
		return nil, fmt.Errorf("use image %s: %w", id, err)
	}
	dirs := make([]string, 0, len(m.Layers))
	for _, l := range slices.Backward(m.Layers) {
		dirs = append(dirs, s.layerDir(l))
	}
	return dirs, nil
}

// Release undoes Use.
func (s *Store) Release(holder string) error {
	path := filepath.Join(s.dir, "leases", holder)
	layers, err := readLease(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("release image: %w", err)
	}
	if err != nil {
		return s.collect()
	}
	s.mu.Lock()
	refreshErr := s.refresh()
	orphaned := slices.ContainsFunc(layers, func(l string) bool { return !s.index.uses(l) })
	s.mu.Unlock()
	if refreshErr != nil || !orphaned {
		return refreshErr
	}
	return s.collect()
}

// Holders lists who uses images.
func (s *Store) Holders() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "leases"))
	if err != nil {
		return nil, fmt.Errorf("list users of images: %w", err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, nil
}

// Used says which images are held by somebody.
func (s *Store) Used() (map[string]bool, error) {
	holders, err := s.Holders()
	if err != nil {
		return nil, err
	}
	top := map[string]bool{}
	for _, h := range holders {
		layers, err := readLease(filepath.Join(s.dir, "leases", h))
		if err == nil && len(layers) > 0 {
			top[layers[len(layers)-1]] = true
		}
	}
	images, err := s.List()
	out := map[string]bool{}
	for _, m := range images {
		if n := len(m.Layers); n > 0 && top[m.Layers[n-1]] {
			out[m.ID] = true
		}
	}
	return out, err
}

func readLease(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var layers []string
	return layers, json.Unmarshal(b, &layers)
}

func (idx *index) uses(layer string) bool {
	return slices.ContainsFunc(idx.Images, func(m Image) bool { return slices.Contains(m.Layers, layer) })
}

// collect removes the layers that neither an image nor a container uses.
func (s *Store) collect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.refresh(); err != nil {
		return err
	}
	leased := map[string]bool{}
	holders, err := s.Holders()
	if err != nil {
		return err
	}
	for _, h := range holders {
		layers, err := readLease(filepath.Join(s.dir, "leases", h))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil // who cannot be read may use anything: remove nothing on doubt
		}
		for _, l := range layers {
			leased[l] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return fmt.Errorf("collect layers: %w", err)
	}
	for _, e := range entries {
		digest := "sha256:" + e.Name()
		if leased[digest] || s.index.uses(digest) || s.layers.busy(digest) || time.Since(modTime(e)) < settle {
			continue
		}
		dead := filepath.Join(s.dir, "tmp", "dead-"+e.Name())
		if err := os.Rename(filepath.Join(s.dir, "layers", e.Name()), dead); err != nil {
			return fmt.Errorf("collect layers: %w", err)
		}
		if err := os.RemoveAll(dead); err != nil {
			return fmt.Errorf("collect layers: %w", err)
		}
	}
	return nil
}

// settle is how long a fresh layer is left alone even if nobody names it: its image may be on the way into the index.
const settle = 10 * time.Minute

func modTime(e fs.DirEntry) time.Time {
	info, err := e.Info()
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

func (s *Store) layerDir(digest string) string {
	return filepath.Join(s.dir, "layers", strings.TrimPrefix(digest, "sha256:"), "fs")
}

// add unpacks the layers of an image and enters it into the index.
func (s *Store) add(ctx context.Context, src source, refs []string) (Image, error) {
	cfg, err := v1.ParseConfigFile(strings.NewReader(string(src.config)))
	if err != nil {
		return Image{}, fmt.Errorf("image configuration: %w", err)
	}
	if len(cfg.RootFS.DiffIDs) != len(src.layers) {
		return Image{}, fmt.Errorf("image configuration names %d layers, its manifest %d", len(cfg.RootFS.DiffIDs), len(src.layers))
	}
	m := Image{ID: src.id, Refs: refs, Config: cfg.Config, Digest: src.digest, CreatedAt: cfg.Created.Time}
	if m.Size, m.Layers, err = s.addLayers(ctx, cfg.RootFS.DiffIDs, src.layers); err != nil {
		return Image{}, err
	}
	err = s.change(func(idx *index) error {
		for _, l := range m.Layers { // another process may have collected one meanwhile
			if _, err := os.Stat(s.layerDir(l)); err != nil {
				return err
			}
		}
		m = idx.put(m)
		return nil
	})
	return m, err
}
