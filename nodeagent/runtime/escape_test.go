package runtime

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"hardway/nodeagent/image/imagetest"
)

// The tests of this file try to get out of a container in the ways that others have been got out of. What they must not
// see or change lies in a canary: a folder of the host whose content says so.

func canary(t *testing.T) (dir string, untouched func()) {
	t.Helper()
	dir = t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("the host's folder was changed: %v, %v", entries, err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "of the host" {
			t.Errorf("the host's file was changed: %q, %v", b, err)
		}
	}
}

// TestHostileImageLinks starts images that ship a link to the host where the runtime mounts, masks or makes devices
// (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2019-19921).
func TestHostileImageLinks(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	host, untouched := canary(t)
	for i, at := range []string{"proc", "sys", "dev", "dev/null", "dev/pts", "dev/shm", "dev/console", "etc", "work", "proc/kcore", "proc/sys"} {
		link := imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: at, Linkname: host, Mode: 0o777}}
		layers := [][]imagetest.Entry{imagetest.BusyboxLayer(t), {link}}
		if top, _, ok := strings.Cut(at, "/"); ok {
			layers = append(layers[:1], []imagetest.Entry{imagetest.Dir(top), link})
		}
		name := fmt.Sprintf("hostile:%d", i)
		if _, err := w.opts.Images.Import(t.Context(), imagetest.DockerArchive(t, imagetest.Image{Names: []string{name}, Config: v1.Config{}, Layers: layers})); err != nil {
			continue // refused at the door
		}
		cfg := w.config("cat /secret /etc/secret /scratch/secret /dev/secret /proc/secret 2>/dev/null; echo x > /dev/null; echo x > /scratch/y; cat /proc/kcore /proc/keys 2>/dev/null | wc -c; grep -c ' /proc/sys ' /proc/mounts", func(c *ContainerConfig) {
			c.Image, c.Dir = name, "/scratch"
			c.Mounts = []Mount{{Source: "tmpfs", Target: "/etc/conf"}}
		})
		st, err := w.StartContainer(t.Context(), pod.Config.UID, cfg)
		if err == nil { // it may be refused; when it runs it must be confined
			if out := w.output(w.exited(pod, st.ID)); out != "0\n1\n" {
				t.Errorf("link at /%s: it sees %q", at, out)
			}
		}
		untouched()
	}
}

// TestSubPathRace exchanges a folder of a volume with a link to the host while containers that mount it by subPath start
// (CVE-2017-1002101, CVE-2021-25741, CVE-2021-30465).
func TestSubPathRace(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	host, untouched := canary(t)
	vol := t.TempDir()
	if err := os.Mkdir(filepath.Join(vol, "sub"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(host, filepath.Join(vol, "link")); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		flips := 0
		for {
			select {
			case <-stop:
				stopped <- flips
				return
			default:
			}
			if unix.Renameat2(unix.AT_FDCWD, filepath.Join(vol, "sub"), unix.AT_FDCWD, filepath.Join(vol, "link"), unix.RENAME_EXCHANGE) == nil {
				flips++
			}
		}
	}()
	started := 0
	for range 25 {
		cfg := w.config("cat /data/secret 2>/dev/null; touch /data/x", func(c *ContainerConfig) {
			c.Mounts = []Mount{{Source: vol, Target: "/data", SubPath: "sub/deep"}, {Source: vol, Target: "/more", SubPath: "sub"}}
		})
		st, err := w.StartContainer(t.Context(), pod.Config.UID, cfg)
		if err != nil {
			continue
		}
		started++
		if out := w.output(w.exited(pod, st.ID)); strings.Contains(out, "of the host") {
			t.Errorf("it reads %q", out)
		}
	}
	close(stop)
	t.Logf("%d containers started, %d exchanges", started, <-stopped)
	untouched()
	if _, err := os.Stat(filepath.Join(host, "deep")); err == nil {
		t.Error("a folder was made on the host")
	}
}

// TestProgramIsNotOverwritten lets a container write to the program of every process that enters it (CVE-2019-5736).
func TestProgramIsNotOverwritten(t *testing.T) {
	w := newWorld(t)
	before, err := os.ReadFile(w.opts.SupervisorBinary)
	if err != nil {
		t.Fatal(err)
	}
	pod := w.pod()
	st := w.sh(pod, `while true; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || { echo x >> $p/exe; } 2>/dev/null; done; done`,
		func(c *ContainerConfig) { c.Security = Security{AddCapabilities: []string{"ALL"}} })
	for range 10 {
		if code, _ := w.exec(pod, st.ID, "true"); code != 0 {
			t.Errorf("exec: %d", code)
		}
	}
	after, err := os.ReadFile(w.opts.SupervisorBinary)
	if err != nil || sha256.Sum256(before) != sha256.Sum256(after) {
		t.Errorf("the supervisor's program was changed: %v", err)
	}
}

// TestSeccompProfileMustBeThere starts containers whose own profile is missing, empty, or says nothing (CVE-2023-2431).
func TestSeccompProfileMustBeThere(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "nothing": "{}", "null": "null", "words": "hello"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"missing", "empty", "nothing", "null", "words", ""} {
		st, err := w.StartContainer(t.Context(), pod.Config.UID, w.config("echo runs", func(c *ContainerConfig) {
			c.Security.Seccomp = "Localhost:" + filepath.Join(dir, name)
		}))
		if err == nil {
			t.Errorf("profile %q: it runs: %q", name, w.output(w.exited(pod, st.ID)))
		}
	}
}
