// Package backup keeps snapshots of etcd in files: Save writes one, Look says what is in it, Restore makes a data
// directory of it.
//
// A snapshot is etcd's own data file with its checksum behind it, so that etcdutl reads it too. A file appears under its
// name only when it is whole and on disk.
//
// A restored store never looks as if time had gone back: its revisions go on far above those of the snapshot, and all
// older ones count as compacted, so that every client that remembers the store from before lists anew.
package backup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"hardway/apiserver/etcd"
)

// sector is what etcd's data file is a multiple of; the checksum is what is beyond.
const sector = 512

// Save writes a snapshot that is read from r, checksum included, into a file that must not exist.
func Save(path string, r io.Reader) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("save snapshot: %s exists", path)
	}
	part, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			part.Close()           //nolint:errcheck // the first error is the one that matters
			os.Remove(part.Name()) //nolint:errcheck // likewise
			err = fmt.Errorf("save snapshot to %s: %w", path, err)
		}
	}()
	sum := &trailing{hash: sha256.New()}
	if _, err := io.Copy(io.MultiWriter(part, sum), r); err != nil {
		return err
	}
	if err := sum.check(); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := part.Close(); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // opened for reading
	return d.Sync()
}

// trailing hashes everything but the last bytes, which are the hash that it should be.
type trailing struct {
	hash hash.Hash
	size int64
	tail []byte // the last bytes so far, a hash's size at most
}

func (t *trailing) Write(p []byte) (int, error) {
	t.size += int64(len(p))
	t.tail = append(t.tail, p...)
	if more := len(t.tail) - sha256.Size; more > 0 {
		t.hash.Write(t.tail[:more])
		t.tail = append(t.tail[:0], t.tail[more:]...)
	}
	return len(p), nil
}

func (t *trailing) check() error {
	switch {
	case t.size%sector != sha256.Size:
		return fmt.Errorf("the snapshot was cut short: it has %d bytes and no checksum", t.size)
	case !bytes.Equal(t.hash.Sum(nil), t.tail):
		return errors.New("the snapshot was damaged on its way: its checksum is wrong")
	}
	return nil
}

// Content is what is in a snapshot.
type Content = snapshot.Status

// Look reads all of a snapshot and checks its integrity.
func Look(path string) (Content, error) {
	c, err := snapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		return c, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	return c, nil
}

// revisionBump is how far above the snapshot's the revisions of a restored store go on: far above what a cluster writes
// between two backups, and small enough for a thousand million restores.
const revisionBump = 1_000_000_000

// Restore makes the data directory of a new member of a new cluster. Options are those that the member will be started
// with. The directory must be absent or empty.
func Restore(path string, o etcd.Options, unchecked bool, log *zap.Logger) error {
	name, cluster, peers, err := o.Identity()
	if err != nil {
		return fmt.Errorf("restore snapshot %s: %w", path, err)
	}
	err = snapshot.NewV3(log).Restore(snapshot.RestoreConfig{
		SnapshotPath: path, OutputDataDir: o.DataDir, Name: name, InitialCluster: cluster, PeerURLs: peers,
		InitialClusterToken: o.Token, SkipHashCheck: unchecked, RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("restore snapshot %s into %s: %w", path, o.DataDir, err)
	}
	return nil
}
