package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"hardway/nodeagent/image/imagetest"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP: unpacking layers needs root")
	}
}

func newStore(t *testing.T, o Options) *Store {
	t.Helper()
	needRoot(t)
	s, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// base and app are two images that share a layer.
func twoImages() []imagetest.Image {
	base := []imagetest.Entry{imagetest.Dir("etc"), imagetest.File("etc/os", 0o644, "hardway\n"), imagetest.File("etc/old", 0o644, "old\n")}
	app := []imagetest.Entry{imagetest.File("app", 0o755, "#!/bin/sh\n"), imagetest.File("etc/.wh.old", 0o644, "")}
	return []imagetest.Image{
		{Names: []string{"base:1"}, Layers: [][]imagetest.Entry{base}, Config: v1.Config{User: "7"}},
		{Names: []string{"registry.example/app:2", "app:latest"}, Layers: [][]imagetest.Entry{base, app}, Config: v1.Config{Entrypoint: []string{"/app"}, StopSignal: "SIGINT"}},
	}
}

func layersOnDisk(t *testing.T, s *Store) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestImportDockerArchive(t *testing.T) {
	plain := imagetest.DockerArchive(t, twoImages()...)
	packed := filepath.Join(t.TempDir(), "images.tar.gz")
	b, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := os.WriteFile(packed, z.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string]string{"plain": plain, "gzip": packed} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, Options{})
			images, err := s.Import(t.Context(), archive)
			if err != nil || len(images) != 2 {
				t.Fatalf("got %+v, %v", images, err)
			}
			if n := layersOnDisk(t, s); n != 2 {
				t.Errorf("%d layers on disk, want 2: one is shared", n)
			}
			for ref, user := range map[string]string{"base:1": "7", "docker.io/library/base:1": "7", "app": "", images[1].ID: "", strings.TrimPrefix(images[0].ID, "sha256:"): "7"} {
				m, ok := s.Get(ref)
				if !ok || m.Config.User != user {
					t.Errorf("get %s: %v, %+v", ref, ok, m)
				}
			}
			if _, ok := s.Get("base:2"); ok {
				t.Error("base:2 was found")
			}
			app, _ := s.Get("app")
			if want := []string{"docker.io/library/app:latest", "registry.example/app:2"}; !slices.Equal(app.Refs, want) {
				t.Errorf("references %v, want %v", app.Refs, want)
			}
			if app.Config.StopSignal != "SIGINT" || app.Size == 0 {
				t.Errorf("got %+v", app)
			}
			if _, err := s.Import(t.Context(), archive); err != nil {
				t.Errorf("imported again: %v", err)
			}
			if all, err := s.List(); err != nil || len(all) != 2 {
				t.Errorf("list: %d images, %v", len(all), err)
			}
		})
	}
}

func TestImportOCILayout(t *testing.T) {
	docker := imagetest.DockerArchive(t, twoImages()[0])
	img, err := tarball.ImageFromPath(docker, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := mutate.Config(img, v1.Config{User: "other"})
	if err != nil {
		t.Fatal(err)
	}
	here := v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}
	there := v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}
	both := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: other, Descriptor: there}, mutate.IndexAddendum{Add: img, Descriptor: here})
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendIndex(both, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "quay.io/x/base:oci"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "oci.tar")
	if err := os.WriteFile(archive, tarFolder(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	images, err := s.Import(t.Context(), archive)
	if err != nil || len(images) != 1 {
		t.Fatalf("got %+v, %v", images, err)
	}
	m, ok := s.Get("quay.io/x/base:oci")
	if !ok || m.Config.User != "7" || m.Digest == "" {
		t.Errorf("got %+v, %v", m, ok)
	}
}

func tarFolder(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func TestImportRefusals(t *testing.T) {
	good := imagetest.DockerArchive(t, twoImages()...)
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(b, []byte("hardway\n"), []byte("hardwax\n"), 1)
	tests := []struct {
		name    string
		content []byte
		words   string
	}{
		{"not an archive", []byte("what is this?"), "archive"},
		{"another archive", imagetest.Tar(t, []imagetest.Entry{imagetest.File("x", 0o644, "y")}), "neither a docker-save archive"},
		{"a damaged layer", damaged, "damaged or tampered with"},
		{"cut off", b[:len(b)/3], "EOF"},
		{"empty", nil, "archive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t, Options{})
			path := filepath.Join(t.TempDir(), "a.tar")
			if err := os.WriteFile(path, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Import(t.Context(), path); err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v, want %q", err, tt.words)
			}
			if left, err := os.ReadDir(filepath.Join(s.dir, "tmp")); err != nil || len(left) != 0 {
				t.Errorf("left in tmp: %v, %v", left, err)
			}
		})
	}
}

func TestWhiteouts(t *testing.T) {
	s := newStore(t, Options{})
	lower := []imagetest.Entry{imagetest.Dir("a"), imagetest.File("a/1", 0o644, "1"), imagetest.File("a/2", 0o644, "2"), imagetest.Dir("b"), imagetest.File("b/3", 0o644, "3")}
	upper := []imagetest.Entry{imagetest.File("a/.wh.1", 0, ""), imagetest.Dir("b"), imagetest.File("b/.wh..wh..opq", 0, ""), imagetest.File("b/4", 0o644, "4")}
	_, err := s.Import(t.Context(), imagetest.DockerArchive(t, imagetest.Image{Names: []string{"w"}, Layers: [][]imagetest.Entry{lower, upper}}))
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := s.Use("w", "test")
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(dirs, ":")); err != nil {
		t.Skip("SKIP: cannot mount overlayfs here:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var seen []string
	err = fs.WalkDir(os.DirFS(at), ".", func(p string, _ fs.DirEntry, err error) error {
		seen = append(seen, p)
		return err
	})
	if want := []string{".", "a", "a/2", "b", "b/4"}; err != nil || !slices.Equal(seen, want) {
		t.Errorf("got %v, %v, want %v", seen, err, want)
	}
}

func TestRemoveAndUse(t *testing.T) {
	s := newStore(t, Options{})
	if _, err := s.Import(t.Context(), imagetest.DockerArchive(t, twoImages()...)); err != nil {
		t.Fatal(err)
	}
	age(t, s)
	dirs, err := s.Use("app", "container-1")
	if err != nil || len(dirs) != 2 {
		t.Fatalf("got %v, %v", dirs, err)
	}
	// Topmost first.
	if _, err := os.Stat(filepath.Join(dirs[0], "app")); err != nil {
		t.Error(err)
	}
	if err := s.Remove("app"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get("registry.example/app:2"); !ok {
		t.Error("the image went with the first of two names")
	}
	if err := s.Remove("registry.example/app:2"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get("registry.example/app:2"); ok {
		t.Error("the image is still there")
	}
	if n := layersOnDisk(t, s); n != 2 {
		t.Errorf("%d layers, want 2: one is used by a container, one by another image", n)
	}
	if err := s.Release("container-1"); err != nil {
		t.Fatal(err)
	}
	if n := layersOnDisk(t, s); n != 1 {
		t.Errorf("%d layers after the container went, want 1", n)
	}
	base, _ := s.Get("base:1")
	if err := s.Remove(base.ID); err != nil {
		t.Fatal(err)
	}
	if n := layersOnDisk(t, s); n != 0 {
		t.Errorf("%d layers after all, want 0", n)
	}
	if err := s.Remove("base:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed again: %v", err)
	}
	if err := s.Release("container-1"); err != nil {
		t.Errorf("released again: %v", err)
	}
}

// age makes layers look old, so that collecting them need not wait.
func age(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		p := filepath.Join(s.dir, "layers", e.Name())
		if err := os.Chtimes(p, modTime(e).Add(-2*settle), modTime(e).Add(-2*settle)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoProcesses has a second store on the same folder, as the command line beside the agent.
func TestTwoProcesses(t *testing.T) {
	agent := newStore(t, Options{})
	line, err := Open(agent.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := line.Import(t.Context(), imagetest.DockerArchive(t, twoImages()...)); err != nil {
		t.Fatal(err)
	}
	if _, ok := agent.Get("app"); !ok {
		t.Error("the agent does not see the import")
	}
	if err := line.Remove("base:1"); err != nil {
		t.Fatal(err)
	}
	if _, ok := agent.Get("base:1"); ok {
		t.Error("the agent still sees a removed image")
	}
}

func TestReferenceMoves(t *testing.T) {
	s := newStore(t, Options{})
	first := twoImages()[0]
	second := imagetest.Image{Names: first.Names, Layers: first.Layers, Config: v1.Config{User: "8"}}
	for _, m := range []imagetest.Image{first, second} {
		if _, err := s.Import(t.Context(), imagetest.DockerArchive(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	if m, ok := s.Get("base:1"); !ok || m.Config.User != "8" {
		t.Errorf("got %+v, %v", m, ok)
	}
	if all, err := s.List(); err != nil || len(all) != 2 {
		t.Errorf("%d images, %v; the old one should be there without a name", len(all), err)
	}
}
