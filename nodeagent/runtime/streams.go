package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/supervisor/wire"
)

// silence is how long output may say nothing after its process ended, while another process still holds it open,
// before it counts as finished.
const silence = 500 * time.Millisecond

// Exec runs a command in a running container and returns its exit code when it has ended and its output is delivered.
// It returns an error when the command could not be started (the code is then 126, 127 or 128) or when ctx ended, which
// kills the command.
func (r *Runtime) Exec(ctx context.Context, uid types.UID, id string, cmd []string, s Streams) (int, error) {
	x := &wire.Exec{Args: cmd, TTY: s.TTY}
	if s.TTY {
		select { // a size that is known already spares the command a redraw
		case x.Size = <-s.Resize:
		default:
		}
	}
	code, err := r.stream(ctx, uid, wire.Request{Op: wire.OpExec, ID: id, Exec: x}, s)
	if err != nil {
		return code, fmt.Errorf("exec in container %s: %w", id, err)
	}
	return code, nil
}

// Attach connects s with the first process of a running container until it ends or ctx does.
func (r *Runtime) Attach(ctx context.Context, uid types.UID, id string, s Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if s.TTY && s.Resize != nil {
		wg.Go(func() {
			for {
				select {
				case size, ok := <-s.Resize:
					if !ok {
						return
					}
					// A size that does not arrive is made good by the next one.
					_ = r.ask(ctx, uid, wire.Request{Op: wire.OpResize, ID: id, Size: size}, "resize")
				case <-ctx.Done():
					return
				}
			}
		})
	}
	plain := s
	plain.TTY, plain.Resize = false, nil // the terminal stays with the supervisor
	if _, err := r.stream(ctx, uid, wire.Request{Op: wire.OpAttach, ID: id, Exec: &wire.Exec{}}, plain); err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	return nil
}

// stream sends a request whose streams are s, moves the bytes, and returns the exit code of the final reply.
func (r *Runtime) stream(ctx context.Context, uid types.UID, req wire.Request, s Streams) (int, error) {
	p := &plumbing{streams: s}
	defer p.close()
	if !s.TTY {
		if err := p.pipes(req.Exec); err != nil {
			return 0, err
		}
	}
	conn, reply, files, err := wire.Open(ctx, r.podDir(uid), req, p.theirs...)
	p.closeTheirs()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := reply.Err(); err != nil {
		if errors.Is(err, wire.ErrNoContainer) {
			err = fmt.Errorf("%w (%w)", ErrNotFound, err)
		}
		return reply.ExitCode, err
	}
	if s.TTY {
		if len(files) != 1 {
			return 0, errors.New("the supervisor sent no terminal")
		}
		p.terminal(files[0])
	}
	p.start()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var last wire.Reply
	_, err = wire.Receive(conn, &last)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("the pod supervisor went away: %w", err)
	}
	p.drain(ctx)
	return last.ExitCode, last.Err()
}

// plumbing moves bytes between a caller's streams and descriptors that the supervisor or the process itself holds.
type plumbing struct {
	streams Streams
	theirs  []*os.File
	in      *os.File // written here
	out     []outflow
	resize  *os.File // the terminal, whose size follows streams.Resize
	stop    chan struct{}

	inDone  sync.WaitGroup
	outDone sync.WaitGroup
	once    sync.Once
}

type outflow struct {
	from *os.File
	to   io.WriteCloser
}

// pipes makes a pipe for every stream that is wanted.
func (p *plumbing) pipes(x *wire.Exec) error {
	x.Stdin, x.Stdout, x.Stderr = p.streams.Stdin != nil, p.streams.Stdout != nil, p.streams.Stderr != nil
	if x.Stdin {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		p.in, p.theirs = w, append(p.theirs, r)
	}
	for _, to := range []io.WriteCloser{p.streams.Stdout, p.streams.Stderr} {
		if to == nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		p.out, p.theirs = append(p.out, outflow{r, to}), append(p.theirs, w)
	}
	return nil
}

// terminal uses one descriptor for everything.
func (p *plumbing) terminal(master *os.File) {
	p.resize = master
	if p.streams.Stdin != nil {
		p.in = master
	}
	to := p.streams.Stdout
	if to == nil {
		to = nopCloser{io.Discard} // somebody must read, or the process stops
	}
	p.out = []outflow{{master, to}}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (p *plumbing) closeTheirs() {
	for _, f := range p.theirs {
		f.Close()
	}
	p.theirs = nil
}

func (p *plumbing) start() {
	p.stop = make(chan struct{})
	for _, o := range p.out {
		p.outDone.Go(func() {
			_, _ = io.Copy(o.to, o.from) // ends at the end of file, a terminal's EIO, or close
			o.to.Close()
		})
	}
	if p.in != nil {
		// Not waited for: a caller's Read that blocks is ended by the caller.
		go func() {
			_, _ = io.Copy(p.in, p.streams.Stdin) // ends when either side does
			if p.resize == nil {
				p.in.Close()
			}
		}()
	}
	if p.resize != nil && p.streams.Resize != nil {
		p.inDone.Go(func() {
			for {
				select {
				case size, ok := <-p.streams.Resize:
					if !ok {
						return
					}
					setSize(p.resize, size)
				case <-p.stop:
					return
				}
			}
		})
	}
}

// setSize tells a terminal its size; one that is gone needs none.
func setSize(master *os.File, size Size) {
	rc, err := master.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
}

// drain waits for the rest of the output. Somebody else may hold it open for long; then silence ends it.
func (p *plumbing) drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		p.outDone.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-time.After(silence):
			quiet := true
			for _, o := range p.out {
				quiet = quiet && !readable(o.from)
			}
			if quiet {
				return
			}
		}
	}
}

// readable says whether bytes wait in f.
func readable(f *os.File) bool {
	rc, err := f.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	err = rc.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		ready = err == nil && n == 1 && fds[0].Revents&unix.POLLIN != 0
	})
	return err == nil && ready
}

// close ends everything that still moves.
func (p *plumbing) close() {
	p.once.Do(func() {
		p.closeTheirs()
		if p.stop != nil {
			close(p.stop)
		}
		if p.in != nil {
			p.in.Close()
		}
		for _, o := range p.out {
			o.from.Close()
		}
		p.inDone.Wait()
	})
}

// Dial connects to a TCP port on the pod's loopback address, as a process in the pod would.
func (r *Runtime) Dial(ctx context.Context, uid types.UID, port uint16) (net.Conn, error) {
	conn, reply, files, err := wire.Open(ctx, r.podDir(uid), wire.Request{Op: wire.OpDial, Port: port})
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of pod %s: %w", port, uid, err)
	}
	defer conn.Close()
	if err := reply.Err(); err != nil || len(files) != 1 {
		return nil, fmt.Errorf("connect to port %d of pod %s: %w", port, uid, err)
	}
	defer files[0].Close()
	return net.FileConn(files[0])
}
