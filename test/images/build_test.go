package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "hello.tar")
	image, err := helloImage([]byte("program"), "7")
	if err != nil {
		t.Fatal(err)
	}
	if err := write(path, "docker.io/hardway/hello:7", image); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("hardway/hello:7")
	if err != nil {
		t.Fatal(err)
	}
	read, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatalf("hello:7 is not in the archive: %v", err)
	}
	config, err := read.ConfigFile()
	if err != nil || config.Config.Env[0] != "VERSION=7" {
		t.Errorf("hello:7 has environment %q, %v", config.Config.Env, err)
	}

	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if image, err = helloImage([]byte("program"), "7"); err != nil {
		t.Fatal(err)
	}
	if err := write(path, "docker.io/hardway/hello:7", image); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("an unchanged archive was written again: %v", err)
	}
}

func TestBusyboxLinks(t *testing.T) {
	image, err := busyboxImage([]byte("program"), []string{"bin/busybox", "bin/sh", "usr/bin/wget", "linuxrc", "bin/sh"})
	if err != nil {
		t.Fatal(err)
	}
	links := map[string]string{}
	extracted := mutate.Extract(image)
	defer extracted.Close()
	for r := tar.NewReader(extracted); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			links[h.Name] = h.Linkname
		}
		if h.Name == "tmp" && h.Mode&0o7777 != 0o1777 {
			t.Errorf("/tmp has mode %o, everybody must be able to write there", h.Mode)
		}
	}
	if len(links) != 2 || links["bin/sh"] != "/bin/busybox" || links["usr/bin/wget"] != "/bin/busybox" {
		t.Errorf("links %v, want bin/sh and usr/bin/wget", links)
	}
}

func TestLayerIsDeterministic(t *testing.T) {
	files := []file{{name: "a/", mode: 0o755}, {name: "a/b", mode: 0o644, data: []byte("x")}}
	one, err := layerArchive(files)
	if err != nil {
		t.Fatal(err)
	}
	two, err := layerArchive(files)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("the same files gave two archives, %v", err)
	}
}
