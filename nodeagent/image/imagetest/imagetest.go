// Package imagetest makes small image archives for tests, out of Debian's static busybox.
package imagetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Applets are the names under which busybox is found in the image.
var Applets = []string{
	"sh", "sleep", "cat", "echo", "ls", "id", "env", "ps", "kill", "true", "false", "touch", "mkdir", "rm", "wget", "nc", "ip",
	"ping", "hostname", "mount", "grep", "tail", "head", "dd", "yes", "stty", "tty", "test", "httpd", "sed", "printf", "seq",
	"usleep", "readlink", "stat", "df", "ipcs", "nslookup", "tr", "wc", "trap", "unshare", "ln", "chmod", "pwd", "cut", "awk", "find",
}

// Entry is one entry of a layer.
type Entry struct {
	Header  tar.Header
	Content string
}

// Image is one image of an archive.
type Image struct {
	Names  []string
	Config v1.Config
	Layers [][]Entry
}

// BusyboxLayer is a root with busybox, /etc/passwd and /etc/group.
func BusyboxLayer(t testing.TB) []Entry {
	t.Helper()
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox (Debian: busybox-static):", err)
	}
	layer := []Entry{Dir("bin"), Dir("etc"), Dir("tmp"), Dir("home"), File("bin/busybox", 0o755, string(b))}
	layer[2].Header.Mode = 0o1777
	for _, a := range Applets {
		layer = append(layer, Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", Mode: 0o777}})
	}
	return append(layer,
		File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n"),
		File("etc/group", 0o644, "root:x:0:\nweb:x:1000:\nlogs:x:2000:web\n"))
}

// File is a regular file.
func File(name string, mode int64, content string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(1700000000, 0)}, content}
}

// Dir is a folder.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(1700000000, 0)}}
}

// Tar writes entries as an archive.
func Tar(t testing.TB, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Digest is the digest of b as images write it.
func Digest(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// DockerArchive writes images as `docker save` does and returns the path of the archive.
func DockerArchive(t testing.TB, images ...Image) string {
	t.Helper()
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var list []entry
	var files []Entry
	seen := map[string]bool{}
	put := func(name string, b []byte) {
		if !seen[name] {
			seen[name] = true
			files = append(files, File(name, 0o644, string(b)))
		}
	}
	for _, m := range images {
		e := entry{RepoTags: m.Names}
		cfg := ConfigFile(m.Config)
		for _, l := range m.Layers {
			b := Tar(t, l)
			d := Digest(b)
			cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, d)
			e.Layers = append(e.Layers, d.Hex+"/layer.tar")
			put(d.Hex+"/layer.tar", b)
		}
		b := mustJSON(t, cfg)
		e.Config = Digest(b).Hex + ".json"
		put(e.Config, b)
		list = append(list, e)
	}
	put("manifest.json", mustJSON(t, list))
	path := filepath.Join(t.TempDir(), "images.tar")
	if err := os.WriteFile(path, Tar(t, files), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ConfigFile is an image configuration without layers.
func ConfigFile(c v1.Config) v1.ConfigFile {
	return v1.ConfigFile{Architecture: "amd64", OS: "linux", Config: c, RootFS: v1.RootFS{Type: "layers"}}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Busybox writes the archive of one image called busybox:latest, which runs a shell.
func Busybox(t testing.TB) string {
	t.Helper()
	return DockerArchive(t, Image{
		Names: []string{"busybox:latest"}, Layers: [][]Entry{BusyboxLayer(t)},
		Config: v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}},
	})
}
