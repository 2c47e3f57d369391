// Package serve receives queries over UDP and TCP and sends the answers.
//
// Over UDP there is one socket for each core (SO_REUSEPORT), each with one goroutine that receives queries and sends answers in batches, one system
// call for each, and answers from memory without leaving the goroutine; queries that have
// to wait for somebody get a goroutine of their own. All numbers of such goroutines and of connections are bounded, and no client may have more than a
// quarter of the goroutines: past the bound, a query gets SERVFAIL at once, and a connection is closed.
package serve

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"hardway/dns/chain"
	"hardway/dns/wire"
)

// Limits of the server.
const (
	maxWaiting = 2000    // queries that wait for an answer from elsewhere
	clients    = 1024    // told apart when places to wait are shared out; two that fall on one count as one
	maxConns   = 1000    // TCP connections
	socketRead = 4 << 20 // bytes of queries that may wait in a UDP socket
)

// Resolver answers queries; see chain.Resolver. Answers begin at the start of the slice returned, which may be dst's.
type Resolver interface {
	Now(dst, query []byte, scratch *wire.Scratch, p chain.Peer) ([]byte, bool)
	Later(ctx context.Context, dst, query []byte, p chain.Peer) []byte
}

// Server serves one address.
type Server struct {
	resolver Resolver
	log      *zap.Logger
	udp      []*net.UDPConn
	tcp      net.Listener
	waiting  chan struct{} // a slot for each query that waits
	seed     maphash.Seed
	shares   [clients]atomic.Int32 // how many of them each client has
	conns    chan struct{}         // a slot for each connection
}

// Listen opens the sockets. Port 0 takes a free one, the same for UDP and TCP. The address must be one of this machine, not the unspecified one:
// over UDP, answers would leave from another address than the one that was asked.
func Listen(ctx context.Context, at netip.AddrPort, resolver Resolver, log *zap.Logger) (*Server, error) {
	s := &Server{resolver: resolver, log: log, seed: maphash.MakeSeed(), waiting: make(chan struct{}, maxWaiting), conns: make(chan struct{}, maxConns)}
	l := net.ListenConfig{Control: shareable}
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen on TCP %s: %w", at, err)
	}
	s.tcp = tcp
	at = netip.AddrPortFrom(at.Addr(), uint16(tcp.Addr().(*net.TCPAddr).Port))
	for range runtime.GOMAXPROCS(0) {
		c, err := l.ListenPacket(ctx, "udp", at.String())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on UDP %s: %w", at, err), s.close())
		}
		udp := c.(*net.UDPConn)
		if err := udp.SetReadBuffer(socketRead); err != nil {
			log.Debug("receive buffer", zap.Error(err))
		}
		s.udp = append(s.udp, udp)
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(s.tcp.Addr().String())
	return a
}

// shareable lets several sockets have one address.
func shareable(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

// Run serves until ctx ends. Queries that wait then get no answer any more.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, len(s.udp)+1)
	for _, c := range s.udp {
		wg.Go(func() { failed <- s.serveUDP(ctx, c, &wg) })
	}
	wg.Go(func() { failed <- s.serveTCP(ctx, &wg) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	err = errors.Join(err, s.close())
	wg.Wait()
	return err
}

func (s *Server) close() error {
	failures := []error{s.tcp.Close()}
	for _, c := range s.udp {
		failures = append(failures, c.Close())
	}
	return errors.Join(failures...)
}

// serveUDP answers the queries of one socket.
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn, wg *sync.WaitGroup) error {
	var scratch wire.Scratch
	b, err := newBatch(c)
	if err != nil {
		return fmt.Errorf("serve UDP: %w", err)
	}
	for {
		err := b.receive()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // closed because the server stops
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Any other error is such as an ICMP message for an earlier answer, and b is empty.
		answers := 0
		for i := range b.n {
			if answer := s.answerUDP(ctx, c, b, i, &scratch, wg); len(answer) > 0 {
				b.put(answers, i, answer)
				answers++
			}
		}
		if err := b.send(answers); err != nil {
			s.log.Debug("send answers", zap.Error(err))
		}
	}
}

// answerUDP answers one query of a batch, or has it answered later.
func (s *Server) answerUDP(ctx context.Context, c *net.UDPConn, b *batch, i int, scratch *wire.Scratch, wg *sync.WaitGroup) []byte {
	from := b.peer(i)
	peer := chain.Peer{Addr: from.Addr().Unmap()}
	answer, done := s.resolver.Now(b.room(i), b.query(i), scratch, peer)
	if done {
		return answer
	}
	free, ok := s.wait(peer)
	if !ok {
		return fail(b.room(i), b.query(i), scratch)
	}
	query := slices.Clone(b.query(i))
	wg.Go(func() {
		defer free()
		if answer := s.resolver.Later(ctx, nil, query, peer); len(answer) > 0 {
			if _, err := c.WriteToUDPAddrPort(answer, from); err != nil {
				s.log.Debug("send answer", zap.Stringer("client", from), zap.Error(err))
			}
		}
	})
	return nil
}

// wait takes a place for a query that has to wait; the caller gives it back. No client has more than its share of the places.
func (s *Server) wait(p chain.Peer) (free func(), ok bool) {
	mine := &s.shares[maphash.Comparable(s.seed, p.Addr)%clients]
	if mine.Add(1) > maxWaiting/4 {
		mine.Add(-1)
		return nil, false
	}
	select {
	case s.waiting <- struct{}{}:
		return func() {
			<-s.waiting
			mine.Add(-1)
		}, true
	default:
		mine.Add(-1)
		return nil, false
	}
}

// fail is SERVFAIL.
func fail(dst, query []byte, scratch *wire.Scratch) []byte {
	q, ok := wire.Parse(query, scratch)
	if !ok {
		return dst
	}
	return wire.Fail(dst, &q, 2)
}
