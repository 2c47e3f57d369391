package atomicdir

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func files(pairs ...string) map[string]File {
	out := map[string]File{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = File{Data: []byte(pairs[i+1]), Mode: 0o640}
	}
	return out
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			data = []byte("dir")
		}
		out = append(out, e.Name()+"="+string(data))
	}
	return strings.Join(out, " ")
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	for _, step := range []struct {
		name    string
		files   map[string]File
		want    string
		changed bool
	}{
		{"first", files("a", "1", "b", "2"), "a=1 b=2", true},
		{"the same again", files("a", "1", "b", "2"), "a=1 b=2", false},
		{"a value changes", files("a", "9", "b", "2"), "a=9 b=2", true},
		{"a file goes, one comes", files("b", "2", "c", "3"), "b=2 c=3", true},
		{"below a folder", files("d/e", "4"), "d=dir", true},
		{"nothing", files(), "", true},
		{"still nothing", files(), "", false},
	} {
		changed, err := Write(dir, step.files, nil)
		if err != nil || changed != step.changed || tree(t, dir) != step.want {
			t.Errorf("%s: %q changed %v, %v", step.name, tree(t, dir), changed, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "..2*")); len(left) != 1 {
			t.Errorf("%s: generations left: %v", step.name, left)
		}
	}
}

func TestWriteRepairsAnInterruptedSwap(t *testing.T) {
	dir := t.TempDir()
	if _, err := Write(dir, files("a", "1"), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir, files("a", "1"), nil); err != nil || tree(t, dir) != "a=1" {
		t.Errorf("%q, %v", tree(t, dir), err)
	}
}

func TestWriteRefusesPathsOutside(t *testing.T) {
	for _, p := range []string{"../a", "/a", "a/../../b", "..a", "", "a//b", "."} {
		if _, err := Write(t.TempDir(), files(p, "1"), nil); err == nil {
			t.Errorf("%q was accepted", p)
		}
	}
}

func TestModeAndGroup(t *testing.T) {
	dir := t.TempDir()
	group := int64(os.Getgid())
	if _, err := Write(dir, map[string]File{"a": {Mode: 0o400}}, nil); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(dir, "a")); info.Mode().Perm() != 0o400 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := Write(dir, map[string]File{"b": {Mode: 0o400}}, &group); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(dir, "b")); info.Mode().Perm() != 0o440 {
		t.Errorf("a group must be able to read: %v", info.Mode())
	}
}

// TestReadersSeeOneGeneration changes two files again and again while a reader checks that they always belong together.
func TestReadersSeeOneGeneration(t *testing.T) {
	dir := t.TempDir()
	if _, err := Write(dir, files("a", "0", "b", "0"), nil); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			name, err := os.Readlink(filepath.Join(dir, dataLink))
			if err != nil {
				t.Error(err) // the link itself must always be there
				return
			}
			generation := filepath.Join(dir, name)
			a, errA := os.ReadFile(filepath.Join(generation, "a"))
			b, errB := os.ReadFile(filepath.Join(generation, "b"))
			if errA == nil && errB == nil && string(a) != string(b) {
				t.Errorf("a is %s, b is %s", a, b)
				return
			}
		}
	})
	for i := range 50 {
		v := strings.Repeat("x", i)
		if _, err := Write(dir, files("a", v, "b", v), nil); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}
