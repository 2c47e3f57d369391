package main

import (
	"archive/tar"
	"bytes"
	"io"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// file is one entry of a layer. Names end in "/" for folders; link makes a symbolic link; owner and time are always 0.
type file struct {
	name string
	mode int64
	data []byte
	link string
}

func helloImage(program []byte, version string) (v1.Image, error) {
	return image([]file{{name: "hello", mode: 0o755, data: program}}, v1.Config{
		Entrypoint:   []string{"/hello"},
		Env:          []string{"VERSION=" + version},
		User:         "65534:65534",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
	})
}

// busyboxImage has a link to busybox for every program of it, and the files that a small system is expected to have.
func busyboxImage(program []byte, programs []string) (v1.Image, error) {
	files := []file{
		{name: "bin/", mode: 0o755}, {name: "sbin/", mode: 0o755},
		{name: "usr/", mode: 0o755}, {name: "usr/bin/", mode: 0o755}, {name: "usr/sbin/", mode: 0o755},
		{name: "etc/", mode: 0o755}, {name: "home/", mode: 0o755}, {name: "root/", mode: 0o700},
		{name: "tmp/", mode: 0o1777}, {name: "var/", mode: 0o755}, {name: "var/tmp/", mode: 0o1777},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "etc/nsswitch.conf", mode: 0o644, data: []byte("hosts: files dns\n")},
		{name: "bin/busybox", mode: 0o755, data: program},
	}
	for _, p := range programs {
		p = strings.TrimPrefix(p, "/")
		if p == "bin/busybox" || !strings.Contains(p, "/") || slices.ContainsFunc(files, func(f file) bool { return f.name == p }) {
			continue
		}
		files = append(files, file{name: p, mode: 0o777, link: "/bin/busybox"})
	}
	return image(files, v1.Config{
		Cmd: []string{"sh"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	})
}

// image is one layer with the files in the order given.
func image(files []file, config v1.Config) (v1.Image, error) {
	archive, err := layerArchive(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	return mutate.ConfigFile(img, file)
}

func layerArchive(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		switch {
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}
