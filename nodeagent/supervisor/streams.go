package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/engine"
	"hardway/nodeagent/supervisor/wire"
)

// dialTimeout bounds a connection to the pod's loopback.
const dialTimeout = 10 * time.Second

// exec runs a further process in a container. Its streams are the caller's own descriptors, so nothing passes through
// here. When the caller hangs up the process is killed.
func (s *Supervisor) exec(c *net.UnixConn, req wire.Request, files []*os.File) {
	gone := hungUp(c)
	e, p, err := s.startExec(req, files, gone)
	for _, f := range files {
		f.Close() // else the caller would never see the end of the output
	}
	if err != nil {
		r := withError(wire.Reply{}, err)
		if se, ok := errors.AsType[*engine.StartError](err); ok {
			r.ExitCode = se.Code
		}
		answer(c, r)
		return
	}
	defer s.dropPid(e, p.Pid)
	var master []*os.File
	if p.Master != nil {
		master = append(master, p.Master)
	}
	if wire.Send(c, wire.Reply{}, master...) != nil {
		c.Close() // the caller is gone; hungUp will say so
	}
	for _, m := range master {
		m.Close()
	}
	ended := make(chan engine.Exit, 1)
	go func() {
		exit, _ := p.Wait() // an error comes with the code 255
		ended <- exit
	}()
	var exit engine.Exit
	select {
	case exit = <-ended:
	case <-gone:
		if err := p.Kill(); err != nil {
			fmt.Fprintf(os.Stderr, "kill process %d: %v\n", p.Pid, err)
		}
		exit = <-ended
	}
	answer(c, wire.Reply{ExitCode: exit.Code})
}

// errHungUp ends a request whose caller does not wait for it any more.
var errHungUp = errors.New("the caller has hung up")

// startExec starts the process; the caller must end with dropPid. Processes of a container are started one after
// another, and those whose caller has given up meanwhile not at all: else probes that time out on a slow machine would
// pile up here.
func (s *Supervisor) startExec(req wire.Request, files []*os.File, gone <-chan struct{}) (*entry, *engine.Process, error) {
	if req.Exec == nil || len(req.Exec.Args) == 0 {
		return nil, nil, errors.New("no command given")
	}
	e, ctr, _, err := s.live(req.ID)
	if err != nil {
		return nil, nil, err
	}
	io, err := stdioFiles(req.Exec, files)
	if err != nil {
		return nil, nil, err
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-gone:
		return nil, nil, errHungUp
	}
	select {
	case <-gone:
		return nil, nil, errHungUp
	default:
	}
	s.spawn.RLock()
	defer s.spawn.RUnlock()
	p, err := ctr.Exec(req.Exec.Args, req.Exec.TTY, req.Exec.Size, io)
	if err != nil {
		return nil, nil, err
	}
	s.holdPid(e, p.Pid)
	return e, p, nil
}

func (s *Supervisor) holdPid(e *entry, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.pids != nil {
		e.pids[pid] = true
	}
}

func (s *Supervisor) dropPid(e *entry, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(e.pids, pid)
}

// stdioFiles sorts the descriptors that came with a request.
func stdioFiles(x *wire.Exec, files []*os.File) (engine.IO, error) {
	var io engine.IO
	want := []struct {
		wanted bool
		to     **os.File
	}{{x.Stdin, &io.Stdin}, {x.Stdout, &io.Stdout}, {x.Stderr, &io.Stderr}}
	if x.TTY {
		return io, nil
	}
	for _, w := range want {
		if !w.wanted {
			continue
		}
		if len(files) == 0 {
			return io, errors.New("fewer descriptors came than were announced")
		}
		// A program expects streams that block.
		if err := setBlocking(files[0]); err != nil {
			return io, err
		}
		*w.to, files = files[0], files[1:]
	}
	return io, nil
}

func setBlocking(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("passed descriptor: %w", err)
	}
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = unix.SetNonblock(int(fd), false) }); err != nil {
		return fmt.Errorf("passed descriptor: %w", err)
	}
	return serr
}

// attach connects a user with the running first process of a container until either ends.
func (s *Supervisor) attach(c *net.UnixConn, req wire.Request, files []*os.File) {
	_, _, io, err := s.live(req.ID)
	if err != nil {
		answer(c, withError(wire.Reply{}, err))
		return
	}
	if req.Exec == nil {
		req.Exec = &wire.Exec{}
	}
	var in *os.File
	cl := &client{done: make(chan struct{})}
	for _, w := range []struct {
		wanted bool
		to     **os.File
	}{{req.Exec.Stdin, &in}, {req.Exec.Stdout, &cl.out}, {req.Exec.Stderr, &cl.err}} {
		if w.wanted && len(files) > 0 {
			*w.to, files = files[0], files[1:]
		}
	}
	if err := io.attach(cl); err != nil {
		answer(c, withError(wire.Reply{}, err))
		return
	}
	defer io.detach(cl)
	if wire.Send(c, wire.Reply{}) != nil {
		return
	}
	if in != nil {
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			io.feed(in)
		}()
		defer func() {
			in.Close() // wakes feed
			<-fed
		}()
	}
	select {
	case <-cl.done:
		answer(c, wire.Reply{ExitCode: io.exitCode()})
	case <-hungUp(c):
	}
}

func (s *stdio) exitCode() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code
}

func (s *Supervisor) resize(id string, size container.Size) error {
	_, _, io, err := s.live(id)
	if err != nil {
		return err
	}
	return io.resize(size)
}

// dial connects to a port on the pod's loopback, this process being in the pod's network, and hands the connection over.
func dial(c *net.UnixConn, port uint16) {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f, err := conn.(*net.TCPConn).File()
		conn.Close()
		if err != nil {
			errs = append(errs, err)
			break
		}
		answer(c, wire.Reply{}, f)
		f.Close()
		return
	}
	answer(c, withError(wire.Reply{}, errs[0]))
}
