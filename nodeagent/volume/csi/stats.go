package csi

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/apimachinery/pkg/types"
)

const (
	statsFresh = time.Minute     // figures of this age are given out without asking the driver
	statsLimit = 5 * time.Second // of one question
)

// Stats is what a driver says of the fill of a volume. What it does not say is nil.
type Stats struct {
	Volume                         string // as the pod calls it
	At                             time.Time
	Bytes, BytesUsed, BytesFree    *uint64
	Inodes, InodesUsed, InodesFree *uint64
	Abnormal                       bool
	Message                        string
}

// statsCache keeps the newest answer for each volume. A driver that is being asked is not asked again.
type statsCache struct {
	mu     sync.Mutex       // guards all below
	newest map[string]Stats // by folder of the volume
	asking map[string]bool
}

func (c *statsCache) forget(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newest, dir)
}

// begin says whether the driver is to be asked now; then end must follow.
func (c *statsCache) begin(dir string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asking[dir] || time.Since(c.newest[dir].At) < statsFresh {
		return false
	}
	if c.asking == nil {
		c.asking, c.newest = map[string]bool{}, map[string]Stats{}
	}
	c.asking[dir] = true
	return true
}

func (c *statsCache) end(dir string, s Stats, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asking, dir)
	if err != nil {
		s = Stats{At: time.Now()} // nothing is known, and it is not asked again at once
	}
	c.newest[dir] = s
}

// Stats returns what is known of the fill of a pod's volumes. Drivers are asked at most once a minute, all at once, and
// waited for only shortly.
func (t *Type) Stats(ctx context.Context, uid types.UID) []Stats {
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	under := filepath.Join(t.Root, "pods", string(uid), "volumes", folder) + "/"
	var wait sync.WaitGroup
	dirs := t.ledger.published(under, t.Boot)
	for dir, rec := range dirs {
		if rec.Block == "" && t.stats.begin(dir) {
			wait.Go(func() {
				s, err := t.ask(ctx, dir, rec)
				t.stats.end(dir, s, err)
			})
		}
	}
	wait.Wait()
	t.stats.mu.Lock()
	defer t.stats.mu.Unlock()
	var out []Stats
	for dir, s := range t.stats.newest {
		if strings.HasPrefix(dir, under) && s.Volume != "" {
			out = append(out, s)
		}
	}
	return out
}

// ask has the driver measure one volume.
func (t *Type) ask(ctx context.Context, dir string, rec record) (Stats, error) {
	s := Stats{Volume: rec.Volume, At: time.Now()}
	d, err := t.Drivers.get(rec.Driver)
	if err == nil && !d.can[csi.NodeServiceCapability_RPC_GET_VOLUME_STATS] {
		err = errors.New("the driver does not measure volumes")
	}
	if err != nil {
		return s, err
	}
	got, err := d.node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{
		VolumeId: rec.Handle, VolumePath: target(dir, false), StagingTargetPath: filepath.Join(t.stageDir(rec.Driver, rec.Handle), staging),
	})
	if err != nil {
		return s, err
	}
	for _, u := range got.Usage {
		total, used, free := count(u.Total), count(u.Used), count(u.Available)
		switch u.Unit {
		case csi.VolumeUsage_BYTES:
			s.Bytes, s.BytesUsed, s.BytesFree = total, used, free
		case csi.VolumeUsage_INODES:
			s.Inodes, s.InodesUsed, s.InodesFree = total, used, free
		}
	}
	if c := got.VolumeCondition; c != nil {
		s.Abnormal, s.Message = c.Abnormal, c.Message
	}
	return s, nil
}

func count(n int64) *uint64 {
	if n < 0 {
		return nil
	}
	return new(uint64(n))
}

// published are the records below a folder of volumes that this boot has published.
func (l *ledger) published(under, boot string) map[string]record {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := maps.Clone(l.records)
	maps.DeleteFunc(out, func(dir string, rec record) bool { return rec.Boot != boot || !strings.HasPrefix(dir, under) })
	return out
}
