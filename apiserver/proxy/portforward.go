package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/tools/portforward"

	"hardway/apiserver/request"
)

// The words of port-forward's protocols. Kubectl sends SPDY inside a WebSocket under a name made of both.
const (
	spdyProtocol    = "SPDY/3.1"
	tunnelPrefix    = spdyProtocol + "+"
	protocolSuffix  = ".k8s.io"
	protocolHeader  = "X-Stream-Protocol-Version"
	webSocketPrefix = "Sec-Websocket-"
)

// PortForward connects to ports of a pod.
func (p *Proxy) PortForward(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	pod, err := p.objects.Pod(r.Context(), info.Namespace, info.Name)
	if err != nil {
		return err
	}
	to, err := p.toNode(r.Context(), pod, "portForward")
	if err != nil {
		return err
	}
	// With SPDY each stream names its port; the old WebSocket protocol names them all at once.
	if ports := r.URL.Query()["ports"]; len(ports) > 0 {
		to.RawQuery = url.Values{"port": {strings.Join(ports, ",")}}.Encode()
	}
	if !isUpgrade(r) {
		return apierrors.NewBadRequest("Upgrade request required")
	}
	if tunnelled := tunnelledProtocols(r); len(tunnelled) > 0 {
		return p.untunnel(w, r, to, tunnelled)
	}
	return p.upgrade(w, r, to, p.nodes)
}

// tunnelledProtocols are the SPDY protocols that a client offers to speak inside a WebSocket.
func tunnelledProtocols(r *http.Request) []string {
	if !websocket.IsWebSocketUpgrade(r) {
		return nil
	}
	var protocols []string
	for _, offer := range websocket.Subprotocols(r) {
		if inner, ok := strings.CutPrefix(offer, tunnelPrefix); ok && strings.HasSuffix(inner, protocolSuffix) {
			protocols = append(protocols, inner)
		}
	}
	return protocols
}

// untunnel takes SPDY out of the client's WebSocket for the node, which is asked first: when it refuses, the client
// learns so in plain HTTP and may try another way.
func (p *Proxy) untunnel(w http.ResponseWriter, r *http.Request, to *url.URL, protocols []string) error {
	out := r.Clone(r.Context())
	out.Method, out.URL, out.Body, out.ContentLength = http.MethodPost, to, http.NoBody, 0
	for name := range out.Header {
		if strings.HasPrefix(name, webSocketPrefix) {
			out.Header.Del(name)
		}
	}
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", spdyProtocol)
	out.Header[http.CanonicalHeaderKey(protocolHeader)] = protocols
	hide(out.Header)
	utilnet.AppendForwardedForHeader(out)
	node, err := p.nodes.switchProtocols(r.Context(), out)
	if err != nil {
		return unreachable(err)
	}
	defer node.conn.Close()
	if done, err := node.refused(w); done {
		return err
	}
	chosen := node.response.Header.Get(protocolHeader)
	if !slices.Contains(protocols, chosen) {
		return apierrors.NewInternalError(&badProtocol{chosen})
	}
	up := websocket.Upgrader{Subprotocols: []string{tunnelPrefix + chosen}, CheckOrigin: sameForAll}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil // Upgrade has answered
	}
	client := portforward.NewTunnelingConnection("apiserver", ws)
	p.join(r.Context(), client, &buffer{node.conn, node.reader})
	return nil
}

// badProtocol is the fault of a node that chose what nobody offered.
type badProtocol struct{ name string }

// Error implements error.
func (b *badProtocol) Error() string {
	return "the node chose protocol " + b.name + " for port-forward, which was not offered"
}

// sameForAll lets pages of every origin connect: clients prove who they are by a certificate or token in the request,
// never by a cookie.
func sameForAll(*http.Request) bool { return true }
