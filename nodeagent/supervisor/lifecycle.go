package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/engine"
	"hardway/nodeagent/supervisor/wire"
)

// entry is one container. Supervisor.mu guards its fields; gone is closed once nothing but the record and the writable
// layer is left of it.
type entry struct {
	status container.Status
	c      *engine.Container // nil before it runs and after it is gone
	io     *stdio            // likewise
	pids   map[int]bool      // processes that somebody here waits for
	killed bool              // asked to end before it ran
	shares bool              // it lives in the PID namespace of another container
	turn   chan struct{}     // holds one token while a further process is being started
	gone   chan struct{}
}

// start creates and starts a container. Asked again for one that exists, it returns that one's status.
func (s *Supervisor) start(req *wire.Start) (*container.Status, error) {
	if req == nil || req.Config.ID == "" {
		return nil, errors.New("start: no container given")
	}
	cfg := req.Config
	s.mu.Lock()
	if e, ok := s.containers[cfg.ID]; ok {
		st := e.status
		s.mu.Unlock()
		return &st, nil
	}
	if s.stopping {
		s.mu.Unlock()
		return nil, errors.New("start: the pod is being removed")
	}
	e := &entry{turn: make(chan struct{}, 1), gone: make(chan struct{}), pids: map[int]bool{}, shares: cfg.Target != "", status: container.Status{
		ID: cfg.ID, Name: cfg.Name, Image: cfg.Image, Attempt: cfg.Attempt, LogPath: cfg.LogPath,
		StopSignal: cfg.StopSignal, State: container.Created, CreatedAt: time.Now(),
	}}
	s.containers[cfg.ID] = e
	failure := s.save(e.status)
	s.mu.Unlock()
	if failure == nil {
		failure = s.run(e, req)
	}
	if failure != nil {
		s.fail(e, failure) // the status says it
	}
	return s.statusOf(e), nil
}

func (s *Supervisor) statusOf(e *entry) *container.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := e.status
	return &st
}

// run brings a created container to life and leaves a goroutine behind that waits for its end.
func (s *Supervisor) run(e *entry, req *wire.Start) error {
	io, ends, err := newStdio(req.Config)
	if err != nil {
		return err
	}
	target, err := s.targetPid(req.Config.Target)
	if err != nil {
		closeEnds(ends)
		io.close()
		return err
	}
	s.spawn.RLock()
	c, err := s.engine.Start(engine.Request{Config: req.Config, Layers: req.Layers, Seccomp: req.Seccomp, IO: ends, TargetPid: target})
	closeEnds(ends)
	if err != nil {
		s.spawn.RUnlock()
		io.close()
		return err
	}
	s.mu.Lock()
	e.c, e.io = c, io
	e.pids[c.Init.Pid] = true
	killed := e.killed
	s.mu.Unlock()
	s.spawn.RUnlock()
	io.pump(c.Init.Master)
	s.update(e, func(st *container.Status) {
		st.State, st.Pid, st.StartedAt = container.Running, c.Init.Pid, time.Now()
	})
	go s.await(e)
	if killed {
		return s.kill(e)
	}
	return nil
}

// targetPid is the first process of the running container id; 0 for no id.
func (s *Supervisor) targetPid(id string) (int, error) {
	if id == "" {
		return 0, nil
	}
	e, _, _, err := s.live(id)
	if err != nil {
		return 0, fmt.Errorf("target container: %w", err)
	}
	return s.statusOf(e).Pid, nil
}

// fail records a container that could not start.
func (s *Supervisor) fail(e *entry, err error) {
	code := 128
	if se, ok := errors.AsType[*engine.StartError](err); ok {
		code = se.Code
	}
	s.update(e, func(st *container.Status) {
		st.State, st.ExitCode, st.Reason, st.FinishedAt = container.Exited, code, err.Error(), time.Now()
	})
	close(e.gone)
}

// await records the end of a container's first process, then removes what is left of the container.
func (s *Supervisor) await(e *entry) {
	defer close(e.gone)
	exit, err := e.c.Init.Wait()
	if s.pod.HostPID || s.pod.ShareProcess || e.shares {
		// No PID namespace ended with it, so others may have stayed behind. Destroy tries again.
		_ = e.c.KillAll()
	}
	oom := exit.Code != 0 && e.c.OOMKills() > 0
	e.io.drain()
	s.update(e, func(st *container.Status) {
		st.State, st.Pid, st.FinishedAt = container.Exited, 0, time.Now()
		st.ExitCode, st.Signal, st.OOMKilled = exit.Code, exit.Signal, oom
		if err != nil {
			st.Reason = err.Error()
		}
	})
	e.io.finish(exit.Code)
	if err := e.c.Destroy(); err != nil {
		fmt.Fprintf(os.Stderr, "container %s: %v\n", e.status.ID, err)
	}
	s.mu.Lock()
	e.c, e.io, e.pids = nil, nil, nil
	s.mu.Unlock()
}

// update changes a container's status, on disk first, and tells the watchers.
func (s *Supervisor) update(e *entry, change func(*container.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&e.status)
	if err := s.save(e.status); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	s.publish(e.status)
}

// live returns a running container.
func (s *Supervisor) live(id string) (*entry, *engine.Container, *stdio, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.containers[id]
	switch {
	case !ok:
		return nil, nil, nil, fmt.Errorf("%w: %s", wire.ErrNoContainer, id)
	case e.status.State != container.Running || e.c == nil:
		return nil, nil, nil, fmt.Errorf("container %s is not running", e.status.Name)
	}
	return e, e.c, e.io, nil
}

// signal delivers sig. To a container that has ended it does nothing.
func (s *Supervisor) signal(id string, sig unix.Signal) error {
	s.mu.Lock()
	e, ok := s.containers[id]
	var c *engine.Container
	if ok && e.status.State == container.Running {
		c = e.c
	}
	s.mu.Unlock()
	switch {
	case !ok:
		return fmt.Errorf("%w: %s", wire.ErrNoContainer, id)
	case sig == unix.SIGKILL:
		return s.kill(e)
	case c == nil:
		return nil
	}
	return c.Signal(sig)
}

// kill ends a container, even one that is only being started.
func (s *Supervisor) kill(e *entry) error {
	s.mu.Lock()
	e.killed = true
	c := e.c
	if e.status.State == container.Exited {
		c = nil
	}
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Signal(unix.SIGKILL)
}

// remove forgets a container that has ended, with its record and its writable layer.
func (s *Supervisor) remove(id string) error {
	s.mu.Lock()
	e, ok := s.containers[id]
	state := container.Exited
	if ok {
		state = e.status.State
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	if state != container.Exited {
		return fmt.Errorf("container %s is %s: stop it first", e.status.Name, state)
	}
	<-e.gone
	if err := s.engine.Discard(id); err != nil {
		return err
	}
	if err := os.Remove(s.recordPath(id)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove record: %w", err)
	}
	s.mu.Lock()
	delete(s.containers, id)
	s.mu.Unlock()
	return nil
}
