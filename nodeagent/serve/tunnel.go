package serve

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// tunnelProtocol is SPDY inside a WebSocket, for port-forward (KEP-4006).
const tunnelProtocol = "SPDY/3.1+portforward.k8s.io"

// tunnel opens the WebSocket and serves port-forward on what it carries, as if that were a connection of its own.
func (s *server) tunnel(w http.ResponseWriter, r *http.Request, pod string, uid types.UID) {
	up := websocket.Upgrader{Subprotocols: []string{tunnelProtocol}, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		s.Log.Debug("tunnel not opened", zap.Error(err))
		return
	}
	conn := clientportforward.NewTunnelingConnection("nodeagent", ws)
	defer conn.Close()
	inner := r.Clone(r.Context())
	inner.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"},
		http.CanonicalHeaderKey("X-Stream-Protocol-Version"): {portforward.ProtocolV1Name},
	}
	portforward.ServePortForward(&upgraded{conn: conn, header: http.Header{}}, inner, forwarder{s.Runtime}, pod, string(uid),
		&portforward.V4Options{}, s.IdleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// upgraded is a response whose connection has been taken over already.
type upgraded struct {
	conn   net.Conn
	header http.Header
}

func (u *upgraded) Header() http.Header         { return u.header }
func (u *upgraded) WriteHeader(int)             {}
func (u *upgraded) Write(p []byte) (int, error) { return len(p), nil }

// Hijack implements http.Hijacker.
func (u *upgraded) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return u.conn, bufio.NewReadWriter(bufio.NewReader(u.conn), bufio.NewWriter(u.conn)), nil
}
