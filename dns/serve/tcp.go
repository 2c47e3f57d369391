package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
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

// serveTCP answers the queries of each connection one after the other.
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

func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() {
		stop()
		_ = c.Close()
	}()
	from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	peer := chain.Peer{TCP: true, Addr: from.Addr().Unmap()}
	var scratch wire.Scratch
	var size [2]byte
	var query, out, framed []byte
	for {
		if c.SetReadDeadline(time.Now().Add(idleTCP)) != nil {
			return
		}
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if cap(query) < n {
			query = make([]byte, n)
		}
		query = query[:n]
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		answer, done := s.resolver.Now(out[:0], query, &scratch, peer)
		if !done {
			answer = s.resolver.Later(ctx, out[:0], query, peer)
		}
		if out = answer; len(out) == 0 {
			return // not DNS
		}
		framed = append(binary.BigEndian.AppendUint16(framed[:0], uint16(len(out))), out...)
		if c.SetWriteDeadline(time.Now().Add(writeTCP)) != nil {
			return
		}
		if _, err := c.Write(framed); err != nil {
			return
		}
	}
}
