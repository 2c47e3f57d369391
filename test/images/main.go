// Command images writes the container images of the sample and of the tests, from programs that are already on this
// machine: hello (built from this repository) and Debian's static busybox. Nothing is pulled.
//
//	images -hello hello -busybox /bin/busybox -out DIR
//
// DIR gets hello-1.tar and hello-2.tar (hardway/hello:1 and :2), busybox-1.35.tar and busybox-latest.tar, archives in the
// format of "docker save". The same programs give the same bytes, and a file that would not change is not written.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	hello := flag.String("hello", "", "the hello program")
	busybox := flag.String("busybox", "/bin/busybox", "a static busybox")
	out := flag.String("out", ".", "folder for the archives")
	flag.Parse()
	if err := run(context.Background(), *hello, *busybox, *out); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, hello, busybox, out string) error {
	program, err := os.ReadFile(hello)
	if err != nil {
		return fmt.Errorf("read the hello program: %w", err)
	}
	for _, version := range []string{"1", "2"} {
		image, err := helloImage(program, version)
		if err != nil {
			return fmt.Errorf("build hello:%s: %w", version, err)
		}
		if err := write(filepath.Join(out, "hello-"+version+".tar"), "docker.io/hardway/hello:"+version, image); err != nil {
			return err
		}
	}
	program, err = os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("read busybox (Debian package busybox-static): %w", err)
	}
	list, err := exec.CommandContext(ctx, busybox, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("list the programs in %s: %w", busybox, err)
	}
	image, err := busyboxImage(program, strings.Fields(string(list)))
	if err != nil {
		return fmt.Errorf("build busybox: %w", err)
	}
	for _, tag := range []string{"1.35", "latest"} {
		if err := write(filepath.Join(out, "busybox-"+tag+".tar"), "docker.io/library/busybox:"+tag, image); err != nil {
			return err
		}
	}
	return nil
}

// write stores an image under its name in an archive, unless the file already holds exactly that.
func write(path, ref string, image v1.Image) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("image name %q: %w", ref, err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, image, &archive); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, archive.Bytes()) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", archive.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
