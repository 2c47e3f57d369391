// Package plugin finds the plugins of a node: programs that offer a socket below a registry folder, such as
// /var/lib/kubelet/plugins_registry, and speak the plugin registration API there. Each says of what type it is, what it is
// called and where it serves; the handler of its type takes it in, or tells it why not.
//
// It works on levels: what lies in the folder is compared with what is registered, when the folder changes and now and
// then. A socket that is made anew under its name is another plugin; one that is gone has its plugin taken out. What does
// not work is tried again with growing pauses, and one plugin that hangs holds up none of the others.
package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	lookEvery  = 10 * time.Second
	callLimit  = 10 * time.Second
	joinLimit  = time.Minute // a handler may talk to the plugin and to the API
	firstRetry = 250 * time.Millisecond
	lastRetry  = time.Minute
	maxDepth   = 3    // folders below the registry that are looked into
	maxSockets = 1000 // further ones are not looked at
)

// Info is what a plugin says of itself.
type Info struct {
	Name     string
	Endpoint string // path of the socket that it serves on
	Versions []string
}

// Handler takes in the plugins of one type.
type Handler interface {
	// Register takes a plugin in, in the place of one of the same name. It may be called again.
	Register(ctx context.Context, p Info) error
	// Deregister says that the plugin's socket is gone. One that has come under the same name with another endpoint stays.
	Deregister(ctx context.Context, p Info)
}

// Registry looks after one folder.
type Registry struct {
	Dir      string
	Handlers map[string]Handler // by type, such as registration.CSIPlugin
	Log      *zap.Logger

	known map[string]*entry // by path of the socket; Run's own
	tasks sync.WaitGroup
}

// entry is one socket in the folder.
type entry struct {
	inode    uint64
	busy     bool
	taken    bool // its handler has taken it in
	done     bool // and it knows
	failures int
	retry    time.Time
	kind     string
	info     Info
}

// outcome is how a registration went.
type outcome struct {
	path  string
	inode uint64
	kind  string
	info  Info
	taken bool
	left  bool // it has been taken out
	err   error
}

// Run keeps plugins registered until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	defer r.tasks.Wait()
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return fmt.Errorf("make folder of plugins: %w", err)
	}
	r.known = map[string]*entry{}
	var changes chan fsnotify.Event
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.Log.Warn("the folder of plugins is not watched, only read now and then", zap.Error(err))
	} else {
		defer w.Close()
		changes = w.Events
	}
	outcomes := make(chan outcome)
	for {
		next := r.look(ctx, w, outcomes)
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case o := <-outcomes:
			r.settle(o)
		case <-time.After(next):
		}
	}
}

// look compares the folder with what is registered, starts what is to be done, and returns when to look again.
func (r *Registry) look(ctx context.Context, w *fsnotify.Watcher, outcomes chan<- outcome) time.Duration {
	there := r.sockets(w)
	for path, e := range r.known {
		inode, ok := there[path]
		switch {
		case e.busy || ok && inode == e.inode:
		case ok: // another one takes its place
			r.known[path] = &entry{inode: inode, taken: e.taken, kind: e.kind, info: e.info}
		case !e.taken:
			delete(r.known, path)
		default:
			e.busy = true
			r.leave(ctx, path, e, outcomes)
		}
	}
	next, now := lookEvery, time.Now()
	for path, inode := range there {
		e := r.known[path]
		if e == nil {
			e = &entry{inode: inode}
			r.known[path] = e
		}
		switch {
		case e.busy || e.done:
		case now.Before(e.retry):
			next = min(next, e.retry.Sub(now))
		default:
			e.busy = true
			r.join(ctx, path, inode, outcomes)
		}
	}
	return next
}

// sockets lists the sockets in the folder with their inodes, and has the folders in it watched.
func (r *Registry) sockets(w *fsnotify.Watcher) map[string]uint64 {
	out := map[string]uint64{}
	err := filepath.WalkDir(r.Dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // it came and went
		case d.IsDir():
			if strings.Count(strings.TrimPrefix(path, r.Dir), "/") > maxDepth {
				return fs.SkipDir
			}
			if w != nil {
				return ignoreMissing(w.Add(path))
			}
		case d.Type() == fs.ModeSocket && len(out) < maxSockets && d.Name()[0] != '.':
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // it came and went
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				out[path] = st.Ino
			}
		}
		return nil
	})
	if err != nil {
		r.Log.Warn("folder of plugins not read whole", zap.Error(err))
	}
	return out
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// join registers one plugin beside the loop.
func (r *Registry) join(ctx context.Context, path string, inode uint64, outcomes chan<- outcome) {
	r.tasks.Go(func() {
		o := outcome{path: path, inode: inode}
		o.err = r.register(ctx, path, &o)
		tell(ctx, outcomes, o)
	})
}

func tell(ctx context.Context, outcomes chan<- outcome, o outcome) {
	select {
	case outcomes <- o:
	case <-ctx.Done():
	}
}

// settle notes how a registration went.
func (r *Registry) settle(o outcome) {
	e := r.known[o.path]
	if e == nil || e.inode != o.inode {
		return
	}
	if o.left {
		delete(r.known, o.path)
		return
	}
	e.busy = false
	if o.taken {
		e.taken, e.kind, e.info = true, o.kind, o.info
	}
	if o.err == nil {
		e.done = true
		r.Log.Info("plugin registered", zap.String("type", o.kind), zap.String("plugin", o.info.Name), zap.String("socket", o.path))
		return
	}
	e.failures++
	e.retry = time.Now().Add(min(firstRetry<<min(e.failures-1, 10), lastRetry))
	r.Log.Warn("plugin not registered", zap.String("plugin", o.info.Name), zap.String("socket", o.path), zap.Error(o.err))
}

// leave takes a plugin out beside the loop.
func (r *Registry) leave(ctx context.Context, path string, e *entry, outcomes chan<- outcome) {
	r.Log.Info("plugin gone", zap.String("type", e.kind), zap.String("plugin", e.info.Name), zap.String("socket", path))
	h, o := r.Handlers[e.kind], outcome{path: path, inode: e.inode, info: e.info, left: true}
	r.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, joinLimit)
		defer cancel()
		h.Deregister(ctx, o.info)
		tell(ctx, outcomes, o)
	})
}

// register asks the plugin who it is, has its handler take it in, and tells it how that went. It fills in the outcome.
func (r *Registry) register(ctx context.Context, path string, o *outcome) error {
	conn, err := Dial(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := registration.NewRegistrationClient(conn)
	asking, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	said, err := c.GetInfo(asking, &registration.InfoRequest{})
	if err != nil {
		return fmt.Errorf("ask who it is: %w", err)
	}
	o.kind, o.info = said.Type, Info{Name: said.Name, Endpoint: cmp.Or(said.Endpoint, path), Versions: said.SupportedVersions}
	status := &registration.RegistrationStatus{}
	if h := r.Handlers[o.kind]; h == nil {
		err = fmt.Errorf("this node takes no plugins of type %q", o.kind)
	} else {
		joining, cancel := context.WithTimeout(ctx, joinLimit)
		defer cancel()
		err = h.Register(joining, o.info)
		o.taken = err == nil
	}
	if status.PluginRegistered = err == nil; err != nil {
		status.Error = err.Error()
	}
	telling, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if _, told := c.NotifyRegistrationStatus(telling, status); told != nil && err == nil {
		err = fmt.Errorf("tell it that it is registered: %w", told)
	}
	return err
}

// Dial returns a connection to a socket of this node. It is made when it is first used, and again when it was lost.
func Dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+strings.TrimPrefix(socket, "unix://"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0))
}
