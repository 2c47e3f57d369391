package csi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

const (
	folder     = "kubernetes.io~csi"
	recordFile = "vol_data.json"
	maxRecord  = 64 << 10
)

// record is what is kept on disk of a volume of a pod. Names and form are upstream's, so that a node may change its agent
// under running pods; upstream reads every field as a string.
type record struct {
	Name         string `json:"specVolID,omitempty"` // of the PersistentVolume, or of the volume in the pod
	Handle       string `json:"volumeHandle"`
	Driver       string `json:"driverName"`
	Node         string `json:"nodeName,omitempty"`
	AttachmentID string `json:"attachmentID,omitempty"`
	Lifecycle    string `json:"volumeLifecycleMode,omitempty"`

	Volume     string `json:"hardwayVolume,omitempty"`     // as the pod calls it
	Attachable string `json:"hardwayAttachable,omitempty"` // "true": the cluster attaches it to nodes
	Block      string `json:"hardwayBlock,omitempty"`      // "true": published as a device
	Boot       string `json:"hardwayBoot,omitempty"`       // of the machine, in which it has been published or staged
}

func (r record) same(driver, handle string) bool { return r.Driver == driver && r.Handle == handle }

// ledger is all records of pods' volumes, on disk and in memory, by the folder that they lie in.
type ledger struct {
	mu      sync.Mutex // guards records
	records map[string]record
}

// openLedger reads the records of all pods. One that cannot be read is told, and met again when its pod ends.
func openLedger(root string) (*ledger, error) {
	l := &ledger{records: map[string]record{}}
	files, err := filepath.Glob(filepath.Join(root, "pods", "*", "volumes", folder, "*", recordFile))
	errs := []error{err}
	for _, f := range files {
		rec, err := readRecord(filepath.Dir(f))
		if err == nil {
			l.records[filepath.Dir(f)] = rec
		}
		errs = append(errs, err)
	}
	return l, errors.Join(errs...)
}

// get reads the record in a folder; there may be none.
func (l *ledger) get(dir string) (record, bool, error) {
	l.mu.Lock()
	rec, ok := l.records[dir]
	l.mu.Unlock()
	if ok {
		return rec, true, nil
	}
	rec, err := readRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, false, nil
	}
	return rec, err == nil, err
}

func (l *ledger) put(dir string, rec record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.records[dir] == rec {
		return nil
	}
	if err := writeRecord(dir, rec); err != nil {
		return err
	}
	l.records[dir] = rec
	return nil
}

// drop removes the record, and then what is left of its folder.
func (l *ledger) drop(dir string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(l.records, dir)
	return nil
}

// users lists the folders of a volume, without one of them.
func (l *ledger) users(driver, handle, without string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for dir, rec := range l.records {
		if dir != without && rec.same(driver, handle) {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return out
}

// inUse names the volumes that must not be detached from this node.
func (l *ledger) inUse() []corev1.UniqueVolumeName {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []corev1.UniqueVolumeName
	for _, rec := range l.records {
		if rec.Attachable == "true" {
			out = append(out, uniqueName(rec.Driver, rec.Handle))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// uniqueName is how a volume is called in a Node's status.
func uniqueName(driver, handle string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + driver + "^" + handle)
}

func readRecord(dir string) (record, error) {
	var rec record
	path := filepath.Join(dir, recordFile)
	info, err := os.Stat(path)
	if err != nil {
		return rec, err
	}
	if info.Size() > maxRecord {
		return rec, fmt.Errorf("record of volume %s: it is too large", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("record of volume %s: %w", path, err)
	}
	if rec.Driver == "" || rec.Handle == "" || strings.Contains(rec.Driver, "/") {
		return rec, fmt.Errorf("record of volume %s: it names no driver or no volume", path)
	}
	return rec, nil
}

// writeRecord puts the record on disk, whole or not at all, before it returns.
func writeRecord(dir string, rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record of volume: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(dir, recordFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write record of volume %s: %w", path, err)
	}
	return os.Rename(path+".new", path)
}
