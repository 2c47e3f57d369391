package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/cgroup"
	"hardway/nodeagent/image"
	"hardway/nodeagent/network"
	"hardway/nodeagent/sandbox"
)

// Options say where things are and who helps.
type Options struct {
	StateDir   string // what lives as long as the kernel does; empty: /run/hardway
	DataDir    string // writable layers of containers, on disk; empty: "containers" beside the folder of the images
	ImageDir   string // empty: /var/lib/hardway/images; used only to find DataDir
	CgroupRoot string // top of the node agent's own cgroups; empty: "hardway"

	// SupervisorBinary is the program that stands over a pod. Empty: hardway-supervisor in the folder of this program,
	// or, when there is none, this program, which must then call supervisor.Main.
	SupervisorBinary string

	Images     *image.Store
	KeepLeases string           // beginning of the names of those who hold images and are no containers
	Network    network.Attacher // nil: only pods with the host's network can run
	Log        *zap.Logger      // nil: silent
}

// maxEvents bounds the events nobody has read yet. Further ones are dropped; Pods heals that.
const maxEvents = 1024

// Runtime runs the pods of one node.
type Runtime struct {
	opts    Options
	sandbox sandbox.Options
	events  chan Event
	log     *zap.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of this Runtime

	mu       sync.Mutex // guards what follows
	locks    map[types.UID]*podLock
	watching map[types.UID]bool
}

// Open finds what runs on this node, reconnects with the living supervisors, and removes what a crash left half made.
// Close lets go of everything without stopping it.
func Open(o Options) (*Runtime, error) {
	o.StateDir = cmp.Or(o.StateDir, "/run/hardway")
	o.ImageDir = cmp.Or(o.ImageDir, "/var/lib/hardway/images")
	o.DataDir = cmp.Or(o.DataDir, filepath.Join(filepath.Dir(o.ImageDir), "containers"))
	o.CgroupRoot = cmp.Or(o.CgroupRoot, "hardway")
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Images == nil {
		return nil, errors.New("open runtime: no image store given")
	}
	for _, d := range []string{filepath.Join(o.StateDir, "pods"), o.DataDir} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("open runtime: %w", err)
		}
	}
	var err error
	if o.SupervisorBinary == "" {
		if o.SupervisorBinary, err = findSupervisor(); err != nil {
			return nil, fmt.Errorf("open runtime: %w", err)
		}
	}
	r := &Runtime{
		opts: o, log: o.Log, events: make(chan Event, maxEvents), locks: map[types.UID]*podLock{}, watching: map[types.UID]bool{},
		sandbox: sandbox.Options{Binary: o.SupervisorBinary, Cgroup: filepath.Join(o.CgroupRoot, "supervisors")},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := r.recover(); err != nil {
		r.Close()
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	return r, nil
}

// Close ends this Runtime's goroutines. Pods run on.
func (r *Runtime) Close() {
	r.cancel()
	r.wg.Wait()
}

// Teardown removes every pod of this node and the node agent's cgroups: the end of a node, not of an agent.
func (r *Runtime) Teardown(ctx context.Context) error {
	uids, err := r.uids()
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range uids {
		errs = append(errs, r.RemovePod(ctx, uid))
	}
	return errors.Join(append(errs, cgroup.Remove(ctx, r.opts.CgroupRoot))...)
}

// Events delivers what happens to containers. The channel is never closed.
func (r *Runtime) Events() <-chan Event { return r.events }

// findSupervisor prefers the small program that is made for it.
func findSupervisor() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	small := filepath.Join(filepath.Dir(self), "hardway-supervisor")
	if st, err := os.Stat(small); err == nil && st.Mode().IsRegular() {
		return small, nil
	}
	return "/proc/self/exe", nil
}

// podLock serializes changes to one pod.
type podLock struct {
	sync.Mutex
	users int
}

// lock takes the lock of a pod.
func (r *Runtime) lock(uid types.UID) (unlock func()) {
	r.mu.Lock()
	l := r.locks[uid]
	if l == nil {
		l = &podLock{}
		r.locks[uid] = l
	}
	l.users++
	r.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		r.mu.Lock()
		defer r.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(r.locks, uid)
		}
	}
}

func (r *Runtime) podDir(uid types.UID) string {
	return filepath.Join(r.opts.StateDir, "pods", string(uid))
}

func (r *Runtime) dataDir(uid types.UID) string { return filepath.Join(r.opts.DataDir, string(uid)) }

// DataDir is where the writable layers of a pod's containers are, each in a folder named after its id.
func (r *Runtime) DataDir(uid types.UID) string { return r.dataDir(uid) }

// recover brings order into what an earlier agent left: living pods are watched again, the containers of dead
// supervisors killed, and writable layers and image leases that belong to nothing removed.
func (r *Runtime) recover() error {
	uids, err := r.uids()
	if err != nil {
		return err
	}
	holders := map[string]bool{}
	for _, uid := range uids {
		st, ok, err := r.Pod(r.ctx, uid)
		if err != nil {
			// Keep what is there, so that RemovePod can still be tried.
			r.log.Warn("pod cannot be read", zap.String("uid", string(uid)), zap.Error(err))
			continue
		}
		if !ok { // a crash in the first or the last moment of a pod
			if err := r.RemovePod(r.ctx, uid); err != nil {
				return err
			}
			continue
		}
		for _, c := range st.Containers {
			holders[c.ID] = true
		}
		if st.Alive {
			r.watch(uid)
			continue
		}
		r.log.Warn("pod lost its supervisor", zap.String("uid", string(uid)))
		if err := r.killLeftovers(st.Config); err != nil {
			return err
		}
	}
	return r.removeOrphans(uids, holders)
}

// removeOrphans deletes what nothing refers to any more.
func (r *Runtime) removeOrphans(uids []types.UID, holders map[string]bool) error {
	known := map[string]bool{}
	for _, uid := range uids {
		known[string(uid)] = true
	}
	entries, err := os.ReadDir(r.opts.DataDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !known[e.Name()] {
			if err := os.RemoveAll(filepath.Join(r.opts.DataDir, e.Name())); err != nil {
				return err
			}
		}
	}
	leases, err := r.opts.Images.Holders()
	if err != nil {
		return err
	}
	for _, id := range leases {
		if !holders[id] && (r.opts.KeepLeases == "" || !strings.HasPrefix(id, r.opts.KeepLeases)) {
			if err := r.opts.Images.Release(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// emit hands out an event, or drops it when nobody reads.
func (r *Runtime) emit(e Event) {
	select {
	case r.events <- e:
	default:
		r.log.Warn("event dropped, nobody reads them", zap.String("uid", string(e.UID)))
	}
}

// retryPause is the wait before a broken connection to a supervisor is tried again.
const retryPause = 200 * time.Millisecond
