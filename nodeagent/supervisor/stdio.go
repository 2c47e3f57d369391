package supervisor

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/crilog"
	"hardway/nodeagent/supervisor/engine"
)

const (
	// chunk is how much output is read at once.
	chunk = 16 << 10
	// slowClient is how long an attached client may hold up the container's output before it is cut off.
	slowClient = 10 * time.Second
	// lastWords is how long output may stay silent after the first process ended while some other process still holds
	// it open, before it counts as finished.
	lastWords = 200 * time.Millisecond
)

// stdio are the standard streams of a container's first process: what it prints goes to the log and to every attached
// client, what clients type goes to its standard input.
type stdio struct {
	log      *crilog.Log // nil: output is not kept
	out, err *os.File    // read ends; with a terminal both nil
	inOnce   bool
	pumps    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	in      *os.File   // write end or the terminal; nil when closed or never wanted
	master  *os.File   // the terminal
	clients map[*client]bool
	ended   bool
	code    int
}

// client is one attached user.
type client struct {
	out, err *os.File // nil: does not want it
	done     chan struct{}
	once     sync.Once
}

func (c *client) close() {
	c.once.Do(func() {
		for _, f := range []*os.File{c.out, c.err} {
			if f != nil {
				f.Close()
			}
		}
		close(c.done)
	})
}

// newStdio makes the streams of a container; the second result are the ends that its process gets.
func newStdio(cfg container.Config) (*stdio, engine.IO, error) {
	s := &stdio{inOnce: cfg.StdinOnce, clients: map[*client]bool{}}
	var ends engine.IO
	var err error
	if cfg.LogPath != "" {
		s.log, err = crilog.Open(crilog.Options{Path: cfg.LogPath, MaxBytes: cfg.LogMaxBytes, MaxFiles: cfg.LogMaxFiles})
		if err != nil {
			return nil, ends, err
		}
	}
	if cfg.TTY {
		return s, ends, nil
	}
	var errs [3]error
	s.out, ends.Stdout, errs[0] = os.Pipe()
	s.err, ends.Stderr, errs[1] = os.Pipe()
	if cfg.Stdin {
		ends.Stdin, s.in, errs[2] = os.Pipe()
	}
	if err := errors.Join(errs[:]...); err != nil {
		closeEnds(ends)
		s.close()
		return nil, engine.IO{}, fmt.Errorf("standard streams: %w", err)
	}
	return s, ends, nil
}

func closeEnds(e engine.IO) {
	for _, f := range []*os.File{e.Stdin, e.Stdout, e.Stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// pump starts reading the output. master is the terminal of a container that has one.
func (s *stdio) pump(master *os.File) {
	if master != nil {
		s.mu.Lock()
		s.master, s.in = master, master
		s.mu.Unlock()
		s.pumps.Go(func() { s.copyOut("stdout", master) })
		return
	}
	s.pumps.Go(func() { s.copyOut("stdout", s.out) })
	s.pumps.Go(func() { s.copyOut("stderr", s.err) })
}

// copyOut moves one stream until its end.
func (s *stdio) copyOut(name string, from *os.File) {
	var record *crilog.Stream
	if s.log != nil {
		record = s.log.Stream(name)
		defer record.Close()
	}
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if record != nil {
				_, _ = record.Write(buf[:n]) // never fails
			}
			s.fanOut(name, buf[:n])
		}
		if err != nil {
			return // end of file, a terminal's EIO, or the deadline of drain
		}
	}
}

// fanOut writes to every attached client. A client that takes nothing for slowClient is cut off, so that it cannot stop
// the container for good.
func (s *stdio) fanOut(name string, p []byte) {
	s.mu.Lock()
	all := make([]*client, 0, len(s.clients))
	for c := range s.clients {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		f := c.out
		if name == "stderr" {
			f = c.err
		}
		if f == nil {
			continue
		}
		err := f.SetWriteDeadline(time.Now().Add(slowClient))
		if err == nil {
			_, err = f.Write(p)
		}
		if err != nil {
			s.detach(c)
		}
	}
}

// attach adds a client. It is an error when the container has ended.
func (s *stdio) attach(c *client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errors.New("the container has ended")
	}
	s.clients[c] = true
	return nil
}

func (s *stdio) detach(c *client) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	c.close()
}

// feed copies what a client types to the container until the client's end of file.
func (s *stdio) feed(from *os.File) {
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			s.mu.Lock()
			in := s.in
			s.mu.Unlock()
			if in == nil {
				return
			}
			if _, werr := in.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inOnce && s.in != nil && s.master == nil {
		s.in.Close()
		s.in = nil
	}
}

func (s *stdio) resize(size container.Size) error {
	s.mu.Lock()
	master := s.master
	s.mu.Unlock()
	if master == nil {
		return errors.New("the container has no terminal")
	}
	return Resize(master, size)
}

// Resize tells a terminal how large its window is.
func Resize(master *os.File, size container.Size) error {
	rc, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var ierr error
	err = rc.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
	if err = errors.Join(err, ierr); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// drain waits until all output has been read, or, when other processes keep it open, until it falls silent.
func (s *stdio) drain() {
	finished := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(lastWords):
		for _, f := range []*os.File{s.out, s.err, s.master} {
			if f != nil {
				_ = f.SetReadDeadline(time.Now()) // fails only on one that is closed
			}
		}
		<-finished
	}
}

// finish sends attached clients home and closes everything. Called once, after drain.
func (s *stdio) finish(code int) {
	s.mu.Lock()
	s.ended, s.code = true, code
	all := s.clients
	s.clients = nil
	s.mu.Unlock()
	for c := range all {
		c.close()
	}
	s.close()
}

func (s *stdio) close() {
	s.mu.Lock()
	in, master := s.in, s.master
	s.in, s.master, s.ended = nil, nil, true
	s.mu.Unlock()
	for _, f := range []*os.File{s.out, s.err, in, master} {
		if f != nil {
			f.Close()
		}
	}
	if s.log == nil {
		return
	}
	if lost := s.log.Close(); lost > 0 {
		fmt.Fprintf(os.Stderr, "%d log records could not be written\n", lost)
	}
}
