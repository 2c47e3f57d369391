package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"

	"hardway/nodeagent/runtime"
)

const creationTimeout = 30 * time.Second

// exec runs a command in a container.
func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	cmd := r.URL.Query()["command"]
	if len(cmd) == 0 {
		http.Error(w, "you must specify a command", http.StatusBadRequest)
		return
	}
	s.stream(w, r, func(ctx context.Context, uid types.UID, id string, st runtime.Streams) error {
		code, err := s.Runtime.Exec(ctx, uid, id, cmd, st)
		if err == nil && code != 0 {
			err = utilexec.CodeExitError{Code: code, Err: fmt.Errorf("exit status %d", code)}
		}
		return err
	})
}

// attach connects with the first process of a container.
func (s *server) attach(w http.ResponseWriter, r *http.Request) { s.stream(w, r, s.Runtime.Attach) }

// session is an exec or attach once its streams are there.
type session func(ctx context.Context, uid types.UID, id string, st runtime.Streams) error

// stream upgrades the connection, to SPDY or to a WebSocket of either protocol version, and runs the session on it.
func (s *server) stream(w http.ResponseWriter, r *http.Request, run session) {
	p, ok := s.find(w, r)
	if !ok {
		return
	}
	opts, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := runningID(p, r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	// The streaming library reports every closed connection as an error.
	r = r.WithContext(klog.NewContext(r.Context(), klog.Logger{}))
	adapter := &sessionAdapter{uid: p.UID, id: id, run: run}
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		s.serveV5(w, r, opts, adapter)
		return
	}
	remotecommand.ServeExec(w, r, adapter, p.Name, string(p.UID), id, nil, opts, s.IdleTimeout, creationTimeout,
		remotecommand.SupportedStreamingProtocols)
}

// sessionAdapter gives a session the shape that the streaming library calls.
type sessionAdapter struct {
	uid types.UID
	id  string
	run session
}

// ExecInContainer implements remotecommand.Executor.
func (a *sessionAdapter) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	sizes := make(chan runtime.Size)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if resize != nil {
		go func() {
			defer close(sizes)
			for {
				select {
				case size, ok := <-resize:
					if !ok {
						return
					}
					select {
					case sizes <- runtime.Size{Width: size.Width, Height: size.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	} else {
		close(sizes)
	}
	return a.run(ctx, a.uid, a.id, runtime.Streams{Stdin: in, Stdout: out, Stderr: errOut, TTY: tty, Resize: sizes})
}

// portForward connects streams of the client with TCP ports of the pod.
func (s *server) portForward(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r)
	if !ok {
		return
	}
	if p.Observed == nil || !p.Observed.Alive {
		http.Error(w, fmt.Sprintf("pod not running (%s/%s)", p.Namespace, p.Name), http.StatusBadRequest)
		return
	}
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		s.tunnel(w, r, p.Name, p.UID)
		return
	}
	opts, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, forwarder{s.Runtime}, p.Name, string(p.UID), opts, s.IdleTimeout, creationTimeout,
		portforward.SupportedProtocols)
}

// forwarder carries one forwarded connection.
type forwarder struct{ runtime Runtime }

// PortForward implements portforward.PortForwarder: it copies until both directions have ended.
func (f forwarder) PortForward(ctx context.Context, _, uid string, port int32, stream io.ReadWriteCloser) error {
	conn, err := f.runtime.Dial(ctx, types.UID(uid), uint16(port))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	up := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stream)
		if c, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
			err = c.CloseWrite()
		}
		up <- err
	}()
	_, down := io.Copy(stream, conn)
	if down != nil {
		return down
	}
	// The pod has said all it will; what the client still sends has nowhere to go once it closed its side.
	select {
	case err = <-up:
	case <-time.After(time.Second):
	}
	return err
}
