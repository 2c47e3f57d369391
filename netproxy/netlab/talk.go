package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// patience bounds every wait for an answer.
const patience = 3 * time.Second

// ServeTCP answers every connection to the port with "<space> <address of the client>", then echoes lines, until the test ends.
func (s *Space) ServeTCP(port uint16) {
	s.t.Helper()
	var l net.Listener
	s.Do(func() {
		var err error
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		s.must(err)
	})
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = fmt.Fprintf(c, "%s %s\n", s.Name, host(c.RemoteAddr()))
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// ServeUDP answers every datagram to the port with "<space> <address of the client>".
func (s *Space) ServeUDP(port uint16) {
	s.t.Helper()
	var c net.PacketConn
	s.Do(func() {
		var err error
		c, err = net.ListenPacket("udp4", fmt.Sprintf("%s:%d", s.Addr, port))
		s.must(err)
	})
	s.t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(s.Name+" "+host(from)), from)
		}
	}()
}

// Conn is an open connection; its first line has been read.
type Conn struct {
	net.Conn
	Server string // the space that answered
	Client string // the address that it saw
	lines  *bufio.Reader
}

// Echo sends a line and waits for it to come back.
func (c *Conn) Echo(line string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return err
	}
	got, err := c.lines.ReadString('\n')
	if err == nil && strings.TrimSpace(got) != line {
		err = fmt.Errorf("echoed %q, want %q", got, line)
	}
	return err
}

// DialTCP connects from the space and reads the first line. The caller closes the connection.
func (s *Space) DialTCP(to string) (*Conn, error) {
	var raw net.Conn
	var err error
	s.Do(func() { raw, err = net.DialTimeout("tcp", to, patience) })
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: raw, lines: bufio.NewReader(raw)}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	c.Server, c.Client, _ = strings.Cut(strings.TrimSpace(line), " ")
	return c, nil
}

// AskTCP makes one connection and closes it: which space answered, and the address that it saw.
func (s *Space) AskTCP(to string) (server, client string, err error) {
	c, err := s.DialTCP(to)
	if err != nil {
		return "", "", err
	}
	return c.Server, c.Client, c.Close()
}

// UDP opens a connected datagram socket in the space, closed when the test ends. Its port stays the same for its whole life.
func (s *Space) UDP(to string) net.Conn {
	s.t.Helper()
	var c net.Conn
	s.Do(func() {
		var err error
		c, err = net.Dial("udp", to)
		s.must(err)
	})
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// AskUDP sends a datagram through an open socket and waits for the answer: which space answered, and the address that it saw.
func AskUDP(c net.Conn, wait time.Duration) (server, client string, err error) {
	_, err = c.Write([]byte("?"))
	if errors.Is(err, syscall.ECONNREFUSED) {
		_, err = c.Write([]byte("?")) // that was the answer to an earlier datagram
	}
	if err != nil {
		return "", "", err
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return "", "", err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return "", "", err
	}
	server, client, _ = strings.Cut(string(b[:n]), " ")
	return server, client, nil
}

func host(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return ap.Addr().Unmap().String()
}
