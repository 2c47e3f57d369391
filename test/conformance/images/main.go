// Command images packs the root file systems that images.sh has prepared into the container images that upstream's conformance
// tests start, under the references that they start them by: one archive each, in the format of "docker save".
//
//	images -layers DIR -out DIR
//
// A layer is a folder of DIR, owned by root, without times: the same files give the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image is one image: its layers are folders, lowest first.
type image struct {
	ref    string
	layers []string
	config v1.Config
}

const e2e = "registry.k8s.io/e2e-test-images/"

// images are all that the conformance tests use. The two of agnhost differ in nothing: tests replace one by the other.
var images = []image{
	{e2e + "agnhost:2.63.0", []string{"base", "agnhost", "tools"}, agnhost("pause")},
	{e2e + "agnhost:2.55", []string{"base", "agnhost", "tools"}, agnhost("pause")},
	{e2e + "nautilus:1.8", []string{"base", "agnhost", "nautilus"}, agnhost("test-webserver")},
	{e2e + "kitten:1.8", []string{"base", "agnhost", "kitten"}, agnhost("test-webserver")},
	{e2e + "busybox:1.37.0-1", []string{"base"}, v1.Config{Cmd: []string{"sh"}}},
	{e2e + "glibc-dns-testing:2.0.0", []string{"base", "tools"}, v1.Config{Cmd: []string{"bash"}}},
	{e2e + "nginx:1.15-4", []string{"base", "nginx"}, v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: ports(80), StopSignal: "SIGQUIT"}},
	{e2e + "nonewprivs:1.4", []string{"base", "nonewprivs"}, v1.Config{Cmd: []string{"nnp"}}},
	{e2e + "sample-apiserver:1.29.2", []string{"base", "sample-apiserver"}, v1.Config{Entrypoint: []string{"/sample-apiserver"}}},
	{"registry.k8s.io/etcd:3.6.8-0", []string{"base", "etcd"}, v1.Config{Cmd: []string{"etcd"}, ExposedPorts: ports(2379, 2380)}},
	{"registry.k8s.io/pause:3.10.2", []string{"pause"}, v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}},
}

func agnhost(command string) v1.Config {
	return v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{command}, ExposedPorts: ports(80, 5000, 8080, 8081, 9376)}
}

func ports(numbers ...int) map[string]struct{} {
	m := map[string]struct{}{}
	for _, n := range numbers {
		m[fmt.Sprintf("%d/tcp", n)] = struct{}{}
	}
	return m
}

// modes are those that are neither 0755, for folders and programs, nor 0644.
var modes = map[string]int64{"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "uploads": 0o777, "usr/local/bin/nnp": 0o6755}

func main() {
	layers := flag.String("layers", "", "folder with a folder for each layer")
	out := flag.String("out", "", "folder for the archives")
	flag.Parse()
	if err := pack(*layers, *out); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func pack(layers, out string) error {
	made := map[string]v1.Layer{}
	for _, im := range images {
		for _, l := range im.layers {
			if made[l] != nil {
				continue
			}
			layer, err := layerOf(filepath.Join(layers, l))
			if err != nil {
				return fmt.Errorf("layer %s: %w", l, err)
			}
			made[l] = layer
		}
		if err := write(filepath.Join(out, fileName(im.ref)), im, made); err != nil {
			return fmt.Errorf("image %s: %w", im.ref, err)
		}
	}
	return nil
}

// fileName is the last part of a reference with "-" for ":".
func fileName(ref string) string {
	return strings.ReplaceAll(ref[strings.LastIndex(ref, "/")+1:], ":", "-") + ".tar"
}

func write(path string, im image, made map[string]v1.Layer) error {
	var layers []v1.Layer
	for _, l := range im.layers {
		layers = append(layers, made[l])
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, im.config
	file.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	file.Config.WorkingDir = "/"
	file.Config.Labels = map[string]string{"org.opencontainers.image.ref.name": im.ref}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	tag, err := name.NewTag(im.ref)
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(path+".new", tag, img); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// layerOf packs a folder.
func layerOf(dir string) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return add(w, dir, path, d)
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }, tarball.WithCompressedCaching)
}

func add(w *tar.Writer, dir, path string, d fs.DirEntry) error {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: rel, Mode: 0o644, Format: tar.FormatPAX}
	var data []byte
	switch {
	case d.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, rel+"/", 0o755
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		if data, err = os.ReadFile(path); err != nil {
			return err
		}
		h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		if info.Mode()&0o111 != 0 {
			h.Mode = 0o755
		}
	default:
		return fmt.Errorf("%s is neither a folder, a file nor a link", path)
	}
	if mode, ok := modes[rel]; ok {
		h.Mode = mode
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}
