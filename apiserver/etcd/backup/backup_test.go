package backup

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"hardway/apiserver/etcd"
)

func start(t *testing.T, dir string) *etcd.Server {
	t.Helper()
	s, err := etcd.Start(t.Context(), etcd.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// What is restored is what was saved; revisions never go back, and those from before are compacted.
func TestSaveAndRestore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "etcd.db")
	s := start(t, filepath.Join(dir, "old"))
	put, err := s.Client().Put(t.Context(), "/registry/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := etcd.Snapshot(t.Context(), s.Client())
	if err != nil {
		t.Fatal(err)
	}
	if err := Save(file, r); err != nil {
		t.Fatal(err)
	}
	// Written after the backup, seen by clients, and gone with the restore.
	late, err := s.Client().Put(t.Context(), "/registry/b", "2")
	if err != nil {
		t.Fatal(err)
	}
	content, err := Look(file)
	if err != nil || content.Revision != put.Header.Revision || content.TotalKey != 1 {
		t.Errorf("Look() = %+v, %v; want revision %d and one key", content, err, put.Header.Revision)
	}

	o := etcd.Options{DataDir: filepath.Join(dir, "new")}
	if err := Restore(file, o, false, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	c := start(t, o.DataDir).Client()
	got, err := c.Get(t.Context(), "/registry/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" || got.Kvs[0].ModRevision != put.Header.Revision {
		t.Errorf("after the restore: %v", got.Kvs)
	}
	if got.Header.Revision <= late.Header.Revision {
		t.Errorf("revisions went back from %d to %d", late.Header.Revision, got.Header.Revision)
	}
	if _, err := c.Get(t.Context(), "/registry/a", clientv3.WithRev(late.Header.Revision)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("reading an old revision: %v, want %v", err, rpctypes.ErrCompacted)
	}
	if err := Restore(file, o, false, zap.NewNop()); err == nil {
		t.Error("a data directory in use was restored over")
	}
}

// A snapshot that did not come whole leaves no file behind.
func TestDamagedSnapshots(t *testing.T) {
	dir := t.TempDir()
	s := start(t, filepath.Join(dir, "etcd"))
	r, err := etcd.Snapshot(t.Context(), s.Client())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, whole...)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{"cut": whole[:len(whole)-512], "without checksum": whole[:len(whole)-32], "flipped": flipped, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			if err := Save(filepath.Join(out, "x.db"), reader(data)); err == nil {
				t.Error("it was saved")
			}
			if left, _ := os.ReadDir(out); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	file := filepath.Join(dir, "flipped.db")
	if err := os.WriteFile(file, flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(file, etcd.Options{DataDir: filepath.Join(dir, "r")}, false, zap.NewNop()); err == nil {
		t.Error("a damaged snapshot was restored")
	}
}

// reader hands out data in small pieces, as a connection does.
func reader(data []byte) io.Reader { return &pieces{data} }

type pieces struct{ data []byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(len(p.data), 1000)])
	p.data = p.data[n:]
	return n, nil
}
