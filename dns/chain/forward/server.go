package forward

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// maxIdle is how many connections to one server wait for their next question.
const maxIdle = 8

// server is one of those that are asked. It is safe for concurrent use.
type server struct {
	addr    string      // "address:port"
	tls     *tls.Config // nil: in the clear
	options *Options
	idle    chan idle // connections over TCP or TLS

	failures atomic.Int32 // in a row
	probing  atomic.Bool
}

type idle struct {
	conn  *dns.Conn
	since time.Time
}

// newServer reads "address:port" or "tls://address:port".
func newServer(text string, o *Options) *server {
	s := &server{addr: text, options: o, idle: make(chan idle, maxIdle)}
	if addr, secure := strings.CutPrefix(text, "tls://"); secure {
		s.addr = addr
		host, _, _ := net.SplitHostPort(addr)
		s.tls = &tls.Config{ServerName: host, RootCAs: o.Roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		if o.ServerName != "" {
			s.tls.ServerName = o.ServerName
		}
	}
	return s
}

// down reports whether the server failed so often that others are asked first.
func (s *server) down() bool {
	return s.options.MaxFails > 0 && int(s.failures.Load()) >= s.options.MaxFails
}

// exchange asks by UDP from a fresh port, and by TCP if the answer does not fit; or by TCP or TLS alone where the server is spoken to that way.
func (s *server) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	if s.tls == nil && !s.options.ForceTCP {
		client := dns.Client{Net: "udp", Timeout: each}
		r, _, err := client.ExchangeContext(ctx, m, s.addr)
		if err != nil || !r.Truncated {
			return r, err
		}
	}
	for {
		conn, used, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		r, err := s.over(ctx, conn, m)
		if err == nil {
			return r, nil
		}
		// A connection that waited may have been closed by the other side meanwhile; a fresh one tells the truth.
		if !used || ctx.Err() != nil {
			return nil, err
		}
	}
}

// over asks through a connection and keeps it for the next question.
func (s *server) over(ctx context.Context, conn *dns.Conn, m *dns.Msg) (*dns.Msg, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	client := dns.Client{Timeout: each}
	r, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	select {
	case s.idle <- idle{conn, time.Now()}:
	default:
		_ = conn.Close()
	}
	return r, nil
}

// connect takes a waiting connection, or makes one.
func (s *server) connect(ctx context.Context) (conn *dns.Conn, used bool, err error) {
	for {
		select {
		case i := <-s.idle:
			if time.Since(i.since) < s.options.Expire {
				return i.conn, true, nil
			}
			_ = i.conn.Close()
			continue
		default:
		}
		break
	}
	client := dns.Client{Net: "tcp", Timeout: each}
	if s.tls != nil {
		client.Net, client.TLSConfig = "tcp-tls", s.tls
	}
	conn, err = client.DialContext(ctx, s.addr)
	if err != nil {
		return nil, false, fmt.Errorf("connect to %s: %w", s.addr, err)
	}
	return conn, false, nil
}

// close ends the waiting connections.
func (s *server) close() {
	for {
		select {
		case i := <-s.idle:
			_ = i.conn.Close()
		default:
			return
		}
	}
}

// failed counts a failure and, when the server then counts as down, asks it until it answers or ctx ends: a question about the root, which every
// server has an answer to.
func (s *server) failed(ctx context.Context, broken func()) {
	s.failures.Add(1)
	if !s.down() || !s.probing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.probing.Store(false)
		tick := time.NewTicker(s.options.HealthCheck)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			m := new(dns.Msg).SetQuestion(".", dns.TypeNS)
			m.RecursionDesired = false
			limited, cancel := context.WithTimeout(ctx, each)
			_, err := s.exchange(limited, m)
			cancel()
			if err == nil {
				s.failures.Store(0)
				return
			}
			broken()
		}
	}()
}
