package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	// handshakeTimeout bounds the time until a backend has answered to an upgrade.
	handshakeTimeout = 30 * time.Second
	// maxRefusal bounds the body of a backend's refusal that is passed on.
	maxRefusal = 64 << 10
)

// isUpgrade says that a request wants its connection for another protocol.
func isUpgrade(r *http.Request) bool {
	for _, value := range r.Header.Values("Connection") {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return r.Header.Get("Upgrade") != ""
			}
		}
	}
	return false
}

// upgrade passes a request for another protocol on to the backend, and joins the two connections once the backend has
// switched. A refusal (4xx, 5xx) is passed back as it is; any other answer is a fault of the backend.
func (p *Proxy) upgrade(w http.ResponseWriter, r *http.Request, to *url.URL, via *backend) error {
	if r.ProtoMajor != 1 {
		return apierrors.NewBadRequest("upgrade needs HTTP/1.1")
	}
	out := r.Clone(r.Context())
	out.URL, out.Body, out.ContentLength = to, http.NoBody, 0
	hide(out.Header)
	utilnet.AppendForwardedForHeader(out)
	node, err := via.switchProtocols(r.Context(), out)
	if err != nil {
		return unreachable(err)
	}
	defer node.conn.Close()
	if done, err := node.refused(w); done {
		return err
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection of %s: %w", r.RemoteAddr, err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Time{}); err != nil {
		return nil // the connection is gone
	}
	if _, err := fmt.Fprintf(client, "HTTP/1.1 %s\r\n", node.response.Status); err != nil {
		return nil
	}
	if err := node.response.Header.Write(client); err != nil {
		return nil
	}
	if _, err := io.WriteString(client, "\r\n"); err != nil {
		return nil
	}
	p.join(r.Context(), &buffer{client, buffered.Reader}, &buffer{node.conn, node.reader})
	return nil
}

// hide removes what the client tells the apiserver only.
func hide(h http.Header) {
	h.Del("Authorization")
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") {
			h.Del(name)
		}
	}
}

// switched is a backend's answer to a request for another protocol.
type switched struct {
	conn     net.Conn
	reader   *bufio.Reader // of conn; may hold the first bytes of the new protocol
	response *http.Response
}

// switchProtocols sends the request and reads the head of the answer, whatever it is.
func (b *backend) switchProtocols(ctx context.Context, out *http.Request) (*switched, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := b.connect(ctx, out.URL)
	if err != nil {
		return nil, err
	}
	// Deadlines alone would let a client that went away wait them out.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s := &switched{conn: conn, reader: bufio.NewReader(conn)}
	if err = out.Write(conn); err == nil {
		s.response, err = http.ReadResponse(s.reader, out) //nolint:bodyclose // the connection is closed as a whole
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// refused answers the client when the backend has not switched, and says whether it did so.
func (s *switched) refused(w http.ResponseWriter) (bool, error) {
	switch code := s.response.StatusCode; {
	case code == http.StatusSwitchingProtocols:
		return false, nil
	case code < http.StatusBadRequest:
		return true, apierrors.NewInternalError(fmt.Errorf("invalid upgrade response: status code %d", code))
	}
	defer s.response.Body.Close()
	if t := s.response.Header.Get("Content-Type"); t != "" {
		w.Header().Set("Content-Type", t)
	}
	w.WriteHeader(s.response.StatusCode)
	_, _ = io.Copy(w, io.LimitReader(s.response.Body, maxRefusal)) // the client may be gone
	return true, nil
}

// buffer is a connection of which some bytes were already read.
type buffer struct {
	net.Conn
	from *bufio.Reader
}

// Read implements io.Reader.
func (b *buffer) Read(p []byte) (int, error) { return b.from.Read(p) }

// join copies both ways until one side ends, or ctx does; then both are closed.
func (p *Proxy) join(ctx context.Context, client, node net.Conn) {
	both := func() {
		client.Close()
		node.Close()
	}
	defer both()
	stop := context.AfterFunc(ctx, both)
	defer stop()
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(node, client)
		done <- err
	}()
	go func() {
		_, err := io.Copy(client, node)
		done <- err
	}()
	if err := <-done; err != nil {
		p.log.Debug("stream ended", zap.Error(err))
	}
	both()
	<-done //nolint:errcheck // one end has been reported
}
