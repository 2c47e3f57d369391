package server

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/nodeagent/evict"
	"hardway/nodeagent/image"
	"hardway/nodeagent/node"
	"hardway/nodeagent/podworker"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/volume"
)

// evictor builds the part that looks after the node's memory, disks and process ids.
func (a *agent) evictor() (*evict.Evictor, error) {
	k := &a.cfg.Kubelet
	thresholds, err := evict.Parse(k.EvictionHard, k.EvictionSoft, k.EvictionSoftGracePeriod, k.EvictionMinimumReclaim)
	if err != nil {
		return nil, err
	}
	return evict.New(evict.Deps{
		Levels: a.levels, Candidates: a.candidates, Storage: a.storage,
		FreeImages: func(ctx context.Context) (bool, error) { return a.collector.free(ctx, 0) },
		Evict: func(p *corev1.Pod, message string, grace time.Duration) {
			a.note(p, nil, corev1.EventTypeWarning, "Evicted", "%s", message)
			a.workers.Evict(p.UID, "Evicted", message, grace)
		},
		Changed: func() { a.node.Poke() },
		Note: func(reason, message string) {
			a.events.Event(node.Ref(a.cfg.Hostname), corev1.EventTypeWarning, reason, "%s", message)
		},
		Log: a.log.Named("evict"), Registry: a.reg, Thresholds: thresholds,
		Transition: k.EvictionPressureTransitionPeriod.Duration, MaxGrace: time.Duration(k.EvictionMaxPodGracePeriod) * time.Second,
	}), nil
}

// kept is what pods cannot have, because with less than that free they are ended.
func (a *agent) kept() corev1.ResourceList {
	out := corev1.ResourceList{}
	thresholds, err := evict.Parse(a.cfg.Kubelet.EvictionHard, nil, nil, nil)
	if err != nil {
		return out // the configuration was checked
	}
	for _, t := range thresholds {
		switch t.Signal {
		case evict.Memory:
			out[corev1.ResourceMemory] = *resource.NewQuantity(t.Value(a.machine.Memory), resource.BinarySI)
		case evict.NodeFS:
			out[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(t.Value(a.machine.Storage), resource.BinarySI)
		}
	}
	return out
}

// levels measures what may run out.
func (a *agent) levels() (map[evict.Signal]evict.Level, error) {
	g, err := node.ReadGauges(a.cfg.RootDir)
	if err != nil {
		return nil, err
	}
	out := map[evict.Signal]evict.Level{
		evict.Memory:     {Available: g.MemoryAvailable, Capacity: a.machine.Memory},
		evict.NodeFS:     {Available: int64(g.DiskFree), Capacity: int64(g.Disk)},
		evict.NodeInodes: {Available: int64(g.InodeFree), Capacity: int64(g.Inodes)},
		evict.PIDs:       {Available: g.PIDs - g.PIDsUsed, Capacity: g.PIDs},
	}
	var st unix.Statfs_t
	if err := unix.Statfs(a.cfg.ImageDir, &st); err == nil {
		out[evict.ImageFS] = evict.Level{Available: int64(st.Bavail) * st.Bsize, Capacity: int64(st.Blocks) * st.Bsize}
		out[evict.ImageInodes] = evict.Level{Available: int64(st.Ffree), Capacity: int64(st.Files)}
	}
	return out, nil
}

// candidates are the pods that run, with what they use.
func (a *agent) candidates(ctx context.Context, disk bool) []evict.Candidate {
	var out []evict.Candidate
	for _, p := range a.workers.Pods() {
		if p.Observed == nil || !p.Observed.Alive || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		c := evict.Candidate{Pod: p.Pod}
		if st, err := a.runtime.Stats(ctx, p.UID); err == nil {
			c.Memory, c.Processes = int64(st.Pod.WorkingSet), int64(st.Pod.Processes)
		}
		if disk {
			c.Disk, c.Inodes = a.written(ctx, p)
		}
		out = append(out, c)
	}
	return out
}

// written is all that a pod has on the node's disk.
func (a *agent) written(ctx context.Context, p podworker.Pod) (bytes, inodes int64) {
	for _, dir := range []string{
		a.runtime.DataDir(p.UID), compose.LogDir(a.cfg.Kubelet.PodLogsDir, p.Namespace, p.Name, p.UID),
		filepath.Join(a.volumeSet.PodDir(p.UID), "volumes", "kubernetes.io~empty-dir"),
	} {
		u := volume.DiskUsage(ctx, dir)
		bytes, inodes = bytes+u.Bytes, inodes+u.Inodes
	}
	return bytes, inodes
}

// storage measures what a pod has written, volume by volume and container by container.
func (a *agent) storage(ctx context.Context, p *corev1.Pod) evict.Storage {
	out := evict.Storage{EmptyDirs: map[string]int64{}, Containers: map[string]int64{}}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
			dir := filepath.Join(a.volumeSet.PodDir(p.UID), "volumes", "kubernetes.io~empty-dir", v.Name)
			out.EmptyDirs[v.Name] = volume.DiskUsage(ctx, dir).Bytes
		}
	}
	st, ok, err := a.runtime.Pod(ctx, p.UID)
	if err != nil || !ok {
		return out
	}
	for _, c := range st.Containers {
		out.Containers[c.Name] += volume.DiskUsage(ctx, filepath.Join(a.runtime.DataDir(p.UID), c.ID)).Bytes
		if c.LogPath != "" {
			out.Containers[c.Name] += volume.DiskUsage(ctx, c.LogPath).Bytes
		}
	}
	return out
}

// collector removes images that nobody uses: when the disk is fuller than the high threshold, until it is at the low one,
// those first that have not been used for longest. Images that were imported by hand stay: no registry has them.
type collector struct {
	*agent

	mu   sync.Mutex // guards used
	used map[string]time.Time
}

const collectEvery = 5 * time.Minute

func (c *collector) run(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("images not collected", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look notes which images are in use and frees disk if it must.
func (c *collector) look(ctx context.Context) error {
	k := &c.cfg.Kubelet
	levels, err := c.levels()
	if err != nil {
		return err
	}
	l := levels[evict.ImageFS]
	if err := c.mark(); err != nil || l.Capacity == 0 {
		return err
	}
	percent := 100 - l.Available*100/l.Capacity
	if percent < int64(*k.ImageGCHighThresholdPercent) {
		if age := k.ImageMaximumGCAge.Duration; age > 0 {
			_, err = c.remove(ctx, 1<<62, func(idle time.Duration) bool { return idle >= age })
		}
		return err
	}
	low := l.Capacity * int64(100-*k.ImageGCLowThresholdPercent) / 100
	freed, err := c.free(ctx, low-l.Available)
	if err == nil && !freed {
		c.events.Event(node.Ref(c.cfg.Hostname), corev1.EventTypeWarning, "FreeDiskSpaceFailed",
			"the disk of the images is %d%% full and no image can be removed", percent)
	}
	return err
}

// mark notes the time for every image that is in use, or seen for the first time.
func (c *collector) mark() error {
	images, err := c.images.store.List()
	if err != nil {
		return err
	}
	used, err := c.images.store.Used()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	fresh := map[string]time.Time{}
	for _, m := range images {
		if at, known := c.used[m.ID]; known && !used[m.ID] {
			fresh[m.ID] = at
		} else {
			fresh[m.ID] = now
		}
	}
	c.used = fresh
	return nil
}

// free removes unused images until want bytes are free, all of them if want is 0.
func (c *collector) free(ctx context.Context, want int64) (bool, error) {
	if err := c.mark(); err != nil {
		return false, err
	}
	if want <= 0 {
		want = 1 << 62
	}
	least := c.cfg.Kubelet.ImageMinimumGCAge.Duration
	return c.remove(ctx, want, func(idle time.Duration) bool { return idle > least })
}

func (c *collector) remove(ctx context.Context, want int64, old func(idle time.Duration) bool) (bool, error) {
	images, err := c.images.store.List()
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	used := c.used
	c.mu.Unlock()
	now := time.Now()
	images = slices.DeleteFunc(images, func(m image.Image) bool {
		return !slices.ContainsFunc(m.Refs, func(r string) bool { return strings.Contains(r, "@") }) || !old(now.Sub(used[m.ID]))
	})
	slices.SortFunc(images, func(a, b image.Image) int { return used[a.ID].Compare(used[b.ID]) })
	freed := false
	for _, m := range images {
		if want <= 0 || ctx.Err() != nil {
			break
		}
		if err := c.images.store.Remove(m.ID); err != nil {
			return freed, err
		}
		c.log.Info("unused image removed", zap.Strings("image", m.Refs), zap.Int64("bytes", m.Size))
		want -= m.Size
		freed = true
	}
	return freed, nil
}
