package supervisor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/engine"
	"hardway/nodeagent/supervisor/wire"
)

// maxConnections bounds requests served at once; more wait in the socket's queue.
const maxConnections = 256

// maxBacklog bounds the changes that a watcher may be behind. One that is further behind is cut off: it connects again
// and reads the whole state.
const maxBacklog = 256

// Supervisor is the state of this process.
type Supervisor struct {
	dir       string
	pod       wire.Pod
	engine    *engine.Engine
	listener  *net.UnixListener
	pauseLife *os.File      // pipe whose end tells the pause process that we are gone; nil without one
	done      chan struct{} // closed by exit when the supervisor shall end
	exit      sync.Once

	mu         sync.Mutex // guards containers, the statuses in it, watchers and stopping
	containers map[string]*entry
	watchers   map[chan container.Status]bool
	stopping   bool

	spawn sync.RWMutex // read-held while a process is being started; the reaper takes it whole
}

// serve answers requests until a shutdown.
func (s *Supervisor) serve() {
	slots := make(chan struct{}, maxConnections)
	go func() {
		for {
			slots <- struct{}{}
			c, err := s.listener.AcceptUnix()
			if err != nil {
				fmt.Fprintln(os.Stderr, "accept:", err)
				return
			}
			go func() {
				defer func() { <-slots }()
				s.handle(c)
			}()
		}
	}()
	<-s.done
}

// handle serves the one request of a connection.
func (s *Supervisor) handle(c *net.UnixConn) {
	defer c.Close()
	if !fromRoot(c) {
		return
	}
	var req wire.Request
	files, err := wire.Receive(c, &req)
	if err != nil {
		return // the caller changed its mind
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	switch req.Op {
	case wire.OpWatch:
		s.watch(c)
	case wire.OpExec:
		s.exec(c, req, files)
	case wire.OpAttach:
		s.attach(c, req, files)
	case wire.OpDial:
		dial(c, req.Port)
	case wire.OpShutdown:
		answer(c, withError(wire.Reply{}, s.shutdown()))
		s.exit.Do(func() { close(s.done) })
	default:
		answer(c, s.carryOut(req))
	}
}

// answer sends a reply. When it cannot be sent, the caller is gone, and nobody is left to be told.
func answer(c *net.UnixConn, r wire.Reply, files ...*os.File) { _ = wire.Send(c, r, files...) }

// carryOut carries out the requests that need no more than one reply.
func (s *Supervisor) carryOut(req wire.Request) wire.Reply {
	var r wire.Reply
	var err error
	switch req.Op {
	case wire.OpStatus:
		r.Statuses = s.statuses()
	case wire.OpStart:
		r.Status, err = s.start(req.Start)
	case wire.OpSignal:
		err = s.signal(req.ID, unix.Signal(req.Signal))
	case wire.OpRemove:
		err = s.remove(req.ID)
	case wire.OpResize:
		err = s.resize(req.ID, req.Size)
	default:
		err = fmt.Errorf("request %q is unknown to this supervisor", req.Op)
	}
	return withError(r, err)
}

func withError(r wire.Reply, err error) wire.Reply {
	if err != nil {
		r.Error, r.Missing = err.Error(), errors.Is(err, wire.ErrNoContainer)
	}
	return r
}

// fromRoot refuses everybody else, should the folder's mode ever fail to.
func fromRoot(c *net.UnixConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	root := false
	err = rc.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		root = err == nil && cred.Uid == 0
	})
	return err == nil && root
}

// watch sends every container's status, then each change.
func (s *Supervisor) watch(c *net.UnixConn) {
	changes := make(chan container.Status, maxBacklog)
	s.mu.Lock()
	s.watchers[changes] = true
	all := s.statusesLocked()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, changes)
		s.mu.Unlock()
	}()
	if wire.Send(c, wire.Reply{Statuses: all}) != nil {
		return
	}
	closed := hungUp(c)
	for {
		select {
		case st, ok := <-changes:
			if !ok || wire.Send(c, wire.Reply{Status: &st}) != nil {
				return
			}
		case <-closed:
			return
		}
	}
}

// hungUp returns a channel that closes when the other side closes c. Nothing more is expected to arrive on c.
func hungUp(c *net.UnixConn) <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, c)
	}()
	return closed
}

// publish tells the watchers. Called with s.mu held.
func (s *Supervisor) publish(st container.Status) {
	for w := range s.watchers {
		select {
		case w <- st:
		default:
			delete(s.watchers, w)
			close(w)
		}
	}
}

func (s *Supervisor) statuses() []container.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statusesLocked()
}

func (s *Supervisor) statusesLocked() []container.Status {
	all := []container.Status{}
	for _, e := range s.containers {
		all = append(all, e.status)
	}
	return all
}

// shutdown ends every container and waits until they are gone. It goes on past errors.
func (s *Supervisor) shutdown() error {
	s.mu.Lock()
	s.stopping = true
	var all []*entry
	for _, e := range s.containers {
		all = append(all, e)
	}
	s.mu.Unlock()
	var errs []error
	for _, e := range all {
		errs = append(errs, s.kill(e))
	}
	for _, e := range all {
		<-e.gone
		errs = append(errs, s.engine.Discard(e.status.ID))
	}
	return errors.Join(errs...) // what is mounted ends with this process
}

// startReaper collects two sorts of children, and nothing else: whoever started a process waits for it by its number. Orphans of
// the containers come to this process when they live in the host's PID namespace. And what was on its way into a container that
// ended just then is nobody's: as long as it is not collected, the kernel holds the container's first process back, whose end
// would never be seen.
func (s *Supervisor) startReaper() {
	child := make(chan os.Signal, 1)
	notifyChild(child)
	go func() {
		for range child {
			s.reapOrphans()
		}
	}()
}

// reapOrphans collects the dead children that nobody here waits for.
func (s *Supervisor) reapOrphans() {
	s.spawn.Lock()
	defer s.spawn.Unlock()
	known := map[int]bool{}
	s.mu.Lock()
	for _, e := range s.containers {
		for pid := range e.pids {
			known[pid] = true
		}
	}
	s.mu.Unlock()
	for _, pid := range deadChildren() {
		if !known[pid] {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}
