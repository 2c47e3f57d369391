package proxy

import (
	"context"
	"crypto/tls"
	"net/http"
	"strconv"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hardway/apiserver/request"
)

// defaultNodePort is the port of a node agent that does not report its own.
const defaultNodePort = 10250

// Objects looks things up. Errors are StatusErrors, NotFound above all.
type Objects interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
	Service(ctx context.Context, namespace, name string) (*corev1.Service, error)
	// Slices are the EndpointSlices of a Service.
	Slices(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error)
}

// Options are what a Proxy is made of.
type Options struct {
	Objects Objects
	// NodeTLS makes the configuration of one connection to a node agent that must prove to be serverName: the
	// apiserver's client certificate for nodes, and the CA of the nodes' serving certificates.
	NodeTLS func(serverName string) *tls.Config
	// AddressTypes is the order in which a node's addresses are tried. Default: internal before external, addresses
	// before names.
	AddressTypes []corev1.NodeAddressType
	Log          *zap.Logger
}

// Proxy serves the subresources that lead to nodes and pods.
type Proxy struct {
	objects      Objects
	addressTypes []corev1.NodeAddressType
	log          *zap.Logger

	nodes    *backend // node agents, verified
	unproven *backend // node agents, for logs with insecureSkipTLSVerifyBackend
	others   *backend // pods, services and other ports of nodes
}

// New makes a Proxy. It opens no connection yet.
func New(o Options) *Proxy {
	if len(o.AddressTypes) == 0 {
		o.AddressTypes = []corev1.NodeAddressType{
			corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeInternalDNS, corev1.NodeExternalDNS, corev1.NodeHostName,
		}
	}
	skip := func(name string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, InsecureSkipVerify: true}
	}
	return &Proxy{
		objects: o.Objects, addressTypes: o.AddressTypes, log: o.Log,
		nodes: newBackend(o.NodeTLS, anywhere),
		unproven: newBackend(func(name string) *tls.Config {
			c := o.NodeTLS(name)
			c.InsecureSkipVerify = true // asked for by the client, and audited with its request
			return c
		}, routable),
		others: newBackend(skip, routable), // pods have no certificates that we could know
	}
}

// Handler serves one request. An error is to be answered as a Status; nothing was written then.
type Handler = func(w http.ResponseWriter, r *http.Request, info *request.Info) error

// Handlers are the handlers by "resource/subresource".
func (p *Proxy) Handlers() map[string]Handler {
	return map[string]Handler{
		"pods/log":         p.Log,
		"pods/exec":        p.Exec,
		"pods/attach":      p.Attach,
		"pods/portforward": p.PortForward,
		"pods/proxy":       p.PodProxy,
		"services/proxy":   p.ServiceProxy,
		"nodes/proxy":      p.NodeProxy,
	}
}

// Close drops idle connections.
func (p *Proxy) Close() {
	for _, b := range []*backend{p.nodes, p.unproven, p.others} {
		b.transport.CloseIdleConnections()
	}
}

// nodeAddress finds where a node agent listens.
func (p *Proxy) nodeAddress(n *corev1.Node) (host, port string, err error) {
	port = strconv.Itoa(defaultNodePort)
	if reported := n.Status.DaemonEndpoints.KubeletEndpoint.Port; reported > 0 {
		port = strconv.Itoa(int(reported))
	}
	for _, t := range p.addressTypes {
		for _, a := range n.Status.Addresses {
			if a.Type == t && a.Address != "" {
				return a.Address, port, nil
			}
		}
	}
	return "", "", noAddress(n)
}
