package serve

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"hardway/dns/chain"
	"hardway/dns/wire"
)

// Times of a TCP connection, RFC 7766 section 6.2.3: one without queries is closed, and so is one that does not take its answers.
const (
	idleTCP  = 10 * time.Second
	writeTCP = 5 * time.Second
)

// maxPipeline is how many queries of one connection wait for their answers.
const maxPipeline = 32

// serveTCP answers the queries of each connection.
func (s *Server) serveTCP(ctx context.Context, wg *sync.WaitGroup) error {
	for {
		c, err := s.tcp.Accept()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // closed because the server stops
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of file descriptors, most likely: others have to close first.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case s.conns <- struct{}{}:
			wg.Go(func() {
				defer func() { <-s.conns }()
				s.serveConn(ctx, c)
			})
		default:
			_ = c.Close()
		}
	}
}

// conn is one TCP connection. Its queries may come without waiting for answers, and answers that have to wait do not keep back those behind them
// (RFC 7766 section 6.2.1.1).
type conn struct {
	net.Conn
	in      *bufio.Reader
	slots   chan struct{} // for answers that wait; when all are taken, no more is read
	waiting sync.WaitGroup

	mu  sync.Mutex
	out *bufio.Writer // guarded by mu
}

func (s *Server) serveConn(ctx context.Context, accepted net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	c := &conn{Conn: accepted, in: bufio.NewReader(accepted), out: bufio.NewWriter(accepted), slots: make(chan struct{}, maxPipeline)}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() {
		c.waiting.Wait() // a client may say that it is done and still read
		cancel()
		stop()
		_ = c.Close()
	}()
	from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	peer := chain.Peer{TCP: true, Addr: from.Addr().Unmap()}
	var scratch wire.Scratch
	var query, out []byte
	for {
		var err error
		if query, err = c.read(query); err != nil {
			return
		}
		answer, done := s.resolver.Now(out[:0], query, &scratch, peer)
		if !done {
			done = !s.later(ctx, c, query, peer)
			if done {
				answer = fail(out[:0], query, &scratch)
			}
		}
		if done {
			if out = answer; len(out) == 0 {
				return // not DNS
			}
			if c.write(out, false) != nil {
				return
			}
		}
		// What comes next may take long: answers leave before it is waited for.
		if c.in.Buffered() == 0 && c.write(nil, true) != nil {
			return
		}
	}
}

// later has a query answered when its answer is there; false: too many wait already.
func (s *Server) later(ctx context.Context, c *conn, query []byte, peer chain.Peer) bool {
	free, ok := s.wait(peer)
	if !ok {
		return false
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		free()
		return false
	}
	query = slices.Clone(query)
	c.waiting.Go(func() {
		defer func() { <-c.slots }()
		defer free()
		_ = c.write(s.resolver.Later(ctx, nil, query, peer), true) // an error shows to the reader, too
	})
	return true
}

// read reads one query into buf, or a larger one.
func (c *conn) read(buf []byte) ([]byte, error) {
	if c.in.Buffered() == 0 {
		if err := c.SetReadDeadline(time.Now().Add(idleTCP)); err != nil {
			return buf, err
		}
	}
	var size [2]byte
	if _, err := io.ReadFull(c.in, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(c.in, buf[:n])
	return buf[:n], err
}

// write adds an answer to what is sent, and sends it if it is the last for now.
func (c *conn) write(answer []byte, last bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.SetWriteDeadline(time.Now().Add(writeTCP)); err != nil {
		return err
	}
	if len(answer) > 0 {
		var size [2]byte
		binary.BigEndian.PutUint16(size[:], uint16(len(answer)))
		if _, err := c.out.Write(size[:]); err != nil {
			return err
		}
		if _, err := c.out.Write(answer); err != nil {
			return err
		}
	}
	if !last {
		return nil
	}
	return c.out.Flush()
}
