package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/image/imagetest"
)

func link(name, to string) imagetest.Entry {
	return imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}}
}

func hard(name, to string) imagetest.Entry {
	return imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}}
}

// TestHostileArchives unpacks layers that try to reach a file beside their folder.
func TestHostileArchives(t *testing.T) {
	needRoot(t)
	const evil = "evil"
	tests := []struct {
		name    string
		entries []imagetest.Entry
		refused bool
	}{
		{"dots", []imagetest.Entry{imagetest.File("../victim", 0o644, evil)}, false},
		{"many dots", []imagetest.Entry{imagetest.File("a/../../../../victim", 0o644, evil)}, false},
		{"an absolute name", []imagetest.Entry{imagetest.File("/victim", 0o644, evil)}, false},
		{"through a relative link", []imagetest.Entry{link("out", ".."), imagetest.File("out/victim", 0o644, evil)}, false},
		{"through an absolute link", []imagetest.Entry{link("out", "DIR"), imagetest.File("out/victim", 0o644, evil)}, true},
		{"through a chain of links", []imagetest.Entry{link("a", ".."), link("b", "a/.."), imagetest.File("b/victim", 0o644, evil)}, false},
		{"over a link to the file", []imagetest.Entry{link("x", "../victim"), imagetest.File("x", 0o644, evil)}, false},
		{"hard link to the file", []imagetest.Entry{hard("x", "../victim"), imagetest.File("x", 0o644, evil)}, true},
		{"hard link through a link", []imagetest.Entry{link("out", ".."), hard("x", "out/victim"), imagetest.File("x", 0o644, evil)}, true},
		{"whiteout upwards", []imagetest.Entry{imagetest.File("a/.wh...", 0, "")}, true},
		{"whiteout of everything", []imagetest.Entry{imagetest.File(".wh.", 0, "")}, true},
		{"whiteout through a link", []imagetest.Entry{link("out", ".."), imagetest.File("out/.wh.victim", 0, "")}, false},
		{"folder over a link", []imagetest.Entry{link("out", ".."), imagetest.Dir("out"), imagetest.File("out/victim", 0o644, evil)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			outer := t.TempDir()
			victim, dir := filepath.Join(outer, "victim"), filepath.Join(outer, "layer")
			if err := os.WriteFile(victim, []byte("good"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range tt.entries {
				if tt.entries[i].Header.Linkname == "DIR" {
					tt.entries[i].Header.Linkname = outer
				}
			}
			_, err := unpack(bytes.NewReader(imagetest.Tar(t, tt.entries)), dir)
			if (err != nil) != tt.refused {
				t.Errorf("got error %v, want one: %v", err, tt.refused)
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "good" {
				t.Errorf("the file outside is %q, %v", b, err)
			}
			if entries, err := os.ReadDir(outer); err != nil || len(entries) != 2 {
				t.Errorf("outside lie %v, %v", entries, err)
			}
		})
	}
}

func TestUnpackKeepsAttributes(t *testing.T) {
	needRoot(t)
	when := time.Unix(1600000000, 0)
	entries := []imagetest.Entry{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o750, Uid: 5, ModTime: when}},
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, Uid: 1, Gid: 2, ModTime: when}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "d/setuid", Mode: 0o4755, Uid: 3, Gid: 4, ModTime: when, PAXRecords: map[string]string{
			"SCHILY.xattr.user.note": "hi", "SCHILY.xattr.trusted.overlay.opaque": "y",
		}}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "setuid", Uid: 6, ModTime: when}},
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "twice", Mode: 0o600, Size: 1}, Content: "1"},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "twice", Mode: 0o600, Size: 2}, Content: "22"},
		hard("d/same", "d/setuid"),
	}
	dir := t.TempDir()
	size, err := unpack(bytes.NewReader(imagetest.Tar(t, entries)), dir)
	if err != nil || size != 3 {
		t.Fatalf("got %d bytes, %v", size, err)
	}
	stat := func(name string) (st unix.Stat_t) {
		t.Helper()
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	for name, want := range map[string][3]uint32{
		".": {0o750, 5, 0}, "d": {0o1777, 1, 2}, "d/setuid": {0o4755, 3, 4}, "d/same": {0o4755, 3, 4}, "pipe": {0o600, 0, 0},
	} {
		st := stat(name)
		if got := [3]uint32{st.Mode & 0o7777, st.Uid, st.Gid}; got != want {
			t.Errorf("%s: mode, owner, group %o, want %o", name, got, want)
		}
	}
	for _, name := range []string{".", "d", "d/setuid", "d/link"} {
		if st := stat(name); st.Mtim.Sec != when.Unix() {
			t.Errorf("%s: modified %d", name, st.Mtim.Sec)
		}
	}
	if st := stat("d/link"); st.Uid != 6 {
		t.Errorf("owner of the link is %d", st.Uid)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "twice")); string(b) != "22" {
		t.Errorf("the later entry should win, got %q", b)
	}
	b := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(dir, "d/setuid"), "user.note", b); err != nil || string(b[:n]) != "hi" {
		t.Errorf("attribute: %q, %v", b[:max(n, 0)], err)
	}
	if _, err := unix.Getxattr(filepath.Join(dir, "d/setuid"), "trusted.overlay.opaque", b); err == nil {
		t.Error("an image set an overlay attribute")
	}
}

func FuzzUnpack(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("SKIP: unpacking layers needs root")
	}
	f.Add("a/b", "../../x", byte(tar.TypeSymlink), "a/b/c")
	f.Add("../a", "/", byte(tar.TypeLink), "a")
	f.Add(".wh.a", "", byte(tar.TypeReg), ".wh..wh..opq")
	f.Fuzz(func(t *testing.T, name, linkname string, kind byte, second string) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if w.WriteHeader(&tar.Header{Name: name, Linkname: linkname, Typeflag: kind, Mode: 0o755}) != nil {
			t.Skip()
		}
		if w.WriteHeader(&tar.Header{Name: second, Typeflag: tar.TypeReg, Mode: 0o644}) != nil {
			t.Skip()
		}
		w.Close()
		outer := t.TempDir()
		dir := filepath.Join(outer, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = unpack(&b, dir) // may fail, but never reach out
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Errorf("outside lie %v, %v", entries, err)
		}
	})
}
