package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

const (
	// pipeAge is how old a pipe may become: then its certificates are read anew.
	pipeAge = 5 * time.Minute
	// pipeIdle is how long a pipe may lie unused: well below what servers and balancers allow.
	pipeIdle = 20 * time.Second
	// repeatWithin is how soon a connection must break for its calls to be made again: one that the server closed while nobody used it does.
	repeatWithin = time.Second
	// pipeAnswer bounds the answer to one call.
	pipeAnswer = 4 << 20
	// idlePipes is how many are kept for later.
	idlePipes = 16
)

// Call is the creation of an object, or of a subresource such as a binding, together with others.
type Call struct {
	Path string         // in the API, such as /api/v1/namespaces/default/events
	Body runtime.Object // of the group and version given to PostAll
	Into runtime.Object // what was stored is decoded into it; nil: it is dropped
	Err  error          // what came of it, as the server's own error
}

// PostAll makes several calls for little more than the cost of one: they are written at once to one connection, and answered in order (HTTP/1.1
// pipelining). Of a single call, and of what the server refuses or has not answered when the connection breaks soon, it makes an ordinary request.
// So a call may be made twice when its answer was lost, but not much later: some are true for a short time only.
func (a *API) PostAll(ctx context.Context, gv schema.GroupVersion, calls []*Call) {
	began, done := time.Now(), 0
	var err error
	if len(calls) > 1 && a.pipes.usable {
		var p *pipe
		if p, err = a.pipes.take(ctx); err == nil {
			if done, err = p.post(ctx, a, gv, calls); err == nil {
				a.pipes.put(p)
			} else {
				p.close()
			}
		}
	}
	for _, c := range calls[:done] {
		if c.Err != nil { // the server's no is told best by asking again
			a.postOne(ctx, gv, c)
		}
	}
	for _, c := range calls[done:] {
		if c.Err = err; err == nil || time.Since(began) < repeatWithin {
			a.postOne(ctx, gv, c)
		}
	}
}

func (a *API) postOne(ctx context.Context, gv schema.GroupVersion, c *Call) {
	of, err := a.group(gv)
	if err != nil {
		c.Err = err
		return
	}
	result := of.Post().AbsPath(c.Path).Body(c.Body).Do(ctx)
	if c.Into != nil {
		c.Err = result.Into(c.Into)
	} else {
		c.Err = result.Error()
	}
}

// pipes are the connections for PostAll that nobody uses just now.
type pipes struct {
	cfg    *rest.Config
	tls    func() (*tls.Config, error) // how connections are secured at the moment
	usable bool                        // the settings are those that pipes know
	host   string
	idle   chan *pipe
}

func newPipes(cfg *rest.Config) *pipes {
	s := &pipes{cfg: cfg, idle: make(chan *pipe, idlePipes)}
	u, err := url.Parse(cfg.Host)
	if err != nil || u.Scheme != "https" || u.Path != "" && u.Path != "/" {
		return s
	}
	if s.host = u.Host; u.Port() == "" {
		s.host += ":443"
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	s.tls = func() (*tls.Config, error) { return rest.TLSConfigFor(cfg) } // which reads the certificates
	if cfg.WrapTransport != nil {
		first, err := rest.TLSConfigFor(cfg)
		if err != nil {
			return s
		}
		certificates, ok := cfg.WrapTransport(&http.Transport{TLSClientConfig: first}).(*renewal)
		if !ok { // who knows what else that does to requests
			return s
		}
		s.tls = func() (*tls.Config, error) { return utilnet.TLSClientConfig(certificates.WrappedRoundTripper()) }
	}
	s.usable = err == nil && proxy == nil && cfg.Proxy == nil && cfg.Transport == nil && cfg.BearerToken == "" &&
		cfg.BearerTokenFile == "" && cfg.Username == "" && cfg.ExecProvider == nil && cfg.AuthProvider == nil &&
		cfg.Impersonate.UserName == "" && cfg.ContentType == runtime.ContentTypeProtobuf
	return s
}

// take finds a connection that is still good, or makes one.
func (s *pipes) take(ctx context.Context) (*pipe, error) {
	for {
		select {
		case p := <-s.idle:
			if now := time.Now(); now.Sub(p.made) < pipeAge && now.Sub(p.used) < pipeIdle {
				return p, nil
			}
			p.close()
		default:
			return s.dial(ctx)
		}
	}
}

func (s *pipes) put(p *pipe) {
	p.used = time.Now()
	select {
	case s.idle <- p:
	default:
		p.close()
	}
}

func (s *pipes) dial(ctx context.Context) (*pipe, error) {
	settings, err := s.tls()
	if err != nil || settings == nil {
		return nil, fmt.Errorf("connect to %s: TLS settings %v: %w", s.host, settings, err)
	}
	settings = settings.Clone()
	settings.NextProtos = []string{"http/1.1"}
	if settings.ServerName == "" {
		if settings.ServerName, _, err = net.SplitHostPort(s.host); err != nil {
			return nil, err
		}
	}
	dial := s.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	plain, err := dial(ctx, "tcp", s.host)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(plain, settings)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close() //nolint:errcheck // nothing was sent
		return nil, err
	}
	head := fmt.Sprintf(" HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: %s\r\nContent-Type: %s\r\nContent-Length: ",
		s.host, s.cfg.UserAgent, runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf)
	return &pipe{conn: conn, head: head, made: time.Now(), answers: bufio.NewReaderSize(conn, 16<<10)}, nil
}

// pipe is a connection over which several calls go at once. One caller uses it at a time.
type pipe struct {
	conn       net.Conn
	head       string // of every request, from after the path to before the length
	answers    *bufio.Reader
	out, body  bytes.Buffer
	made, used time.Time
}

func (p *pipe) close() { p.conn.Close() } //nolint:errcheck // what matters was read

// errRefused marks a call that the server did not carry out.
var errRefused = errors.New("the server said no")

// post makes the calls and returns how many were answered. After an error the pipe is of no use any more.
func (p *pipe) post(ctx context.Context, a *API, gv schema.GroupVersion, calls []*Call) (answered int, err error) {
	p.out.Reset()
	coder := runtime.WithVersionEncoder{Version: gv, Encoder: a.protobuf, ObjectTyper: scheme()}
	for _, c := range calls {
		p.body.Reset()
		if err := coder.Encode(c.Body, &p.body); err != nil {
			return 0, fmt.Errorf("encode for %s: %w", c.Path, err)
		}
		p.out.WriteString("POST ")
		p.out.WriteString((&url.URL{Path: c.Path}).EscapedPath())
		p.out.WriteString(p.head)
		p.out.WriteString(strconv.Itoa(p.body.Len()))
		p.out.WriteString("\r\n\r\n")
		p.out.Write(p.body.Bytes())
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	if err := p.conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = p.conn.SetDeadline(time.Now()) })() // then it fails at once
	if _, err := p.conn.Write(p.out.Bytes()); err != nil {
		return 0, err
	}
	for i, c := range calls {
		last, err := p.answer(a, c)
		if err != nil {
			return i, err
		}
		if last {
			return i + 1, io.EOF
		}
	}
	return len(calls), nil
}

var posted = &http.Request{Method: http.MethodPost}

// answer reads the answer to one call, and says whether no more will come.
func (p *pipe) answer(a *API, c *Call) (last bool, err error) {
	response, err := http.ReadResponse(p.answers, posted)
	if err != nil {
		return false, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end below
	p.body.Reset()
	if n, err := io.Copy(&p.body, io.LimitReader(response.Body, pipeAnswer+1)); err != nil || n > pipeAnswer {
		return false, fmt.Errorf("answer from %s of %d bytes: %w", c.Path, n, err)
	}
	c.Err = nil
	if response.StatusCode < 200 || response.StatusCode > 299 {
		c.Err = errRefused
	} else if c.Into != nil {
		_, _, c.Err = a.protobuf.Decode(p.body.Bytes(), nil, c.Into)
	}
	return response.Close, nil
}
