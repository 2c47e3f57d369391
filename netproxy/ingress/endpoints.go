package ingress

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"hardway/netproxy/ingress/route"
	"hardway/netproxy/state"
	"hardway/shared/client"
)

// How long an endpoint may take: to accept a connection, before another one is tried, and to begin its answer.
const (
	dialTimeout     = 2 * time.Second
	responseTimeout = 5 * time.Minute
)

// errNoEndpoints is what becomes of a request whose Service has nobody to answer.
var errNoEndpoints = errors.New("no endpoint of the Service is ready")

// endpoint is a place that answers, with the connections that lead there.
type endpoint struct {
	address   string
	transport *http.Transport
	scheme    string
	open      atomic.Int64 // requests under way
}

// dialer opens connections to endpoints.
type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// endpoints knows the endpoints of Services, by port. What it found is kept until the Service or one of its slices changes.
type endpoints struct {
	services *client.Informer[corev1.Service]
	slices   *client.Informer[discoveryv1.EndpointSlice]
	dial     dialer

	mu    sync.Mutex
	pools map[state.Name]map[string][]*endpoint // by Service and port; guarded by mu
}

func newEndpoints(services *client.Informer[corev1.Service], of *client.Informer[discoveryv1.EndpointSlice], dial dialer) *endpoints {
	e := &endpoints{services: services, slices: of, dial: dial, pools: map[state.Name]map[string][]*endpoint{}}
	services.OnChange(func(old, now *corev1.Service) {
		s := cmp.Or(now, old)
		e.refresh(state.Name{Namespace: s.Namespace, Name: s.Name})
	})
	of.OnChange(func(old, now *discoveryv1.EndpointSlice) {
		for _, s := range []*discoveryv1.EndpointSlice{old, now} {
			if s != nil {
				e.refresh(state.Name{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
			}
		}
	})
	return e
}

// refresh looks a Service up again that requests were sent to; what is gone loses its idle connections at once, so that no request meets one that its
// server is about to close.
func (e *endpoints) refresh(service state.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for port, old := range e.pools[service] {
		found := e.lookup(route.Backend{Service: service, Port: port}, old)
		for _, at := range old {
			if !slices.Contains(found, at) {
				at.transport.CloseIdleConnections()
			}
		}
		if len(found) == 0 {
			delete(e.pools[service], port) // also when the Service is gone: what is asked for no more is not kept
			continue
		}
		e.pools[service][port] = found
	}
	if len(e.pools[service]) == 0 {
		delete(e.pools, service)
	}
}

// pick chooses one of the endpoints, none of those that were tried already: of two at random the less busy.
func (e *endpoints) pick(b route.Backend, tried []*endpoint) (*endpoint, error) {
	left := e.of(b)
	if len(tried) > 0 {
		left = slices.DeleteFunc(slices.Clone(left), func(at *endpoint) bool { return slices.Contains(tried, at) })
	}
	if len(left) == 0 {
		return nil, errNoEndpoints
	}
	one, other := left[rand.IntN(len(left))], left[rand.IntN(len(left))] //nolint:gosec // nobody gains from guessing it
	if other.open.Load() < one.open.Load() {
		one = other
	}
	return one, nil
}

func (e *endpoints) of(b route.Backend) []*endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.pools[b.Service][b.Port]; known != nil {
		return known
	}
	found := e.lookup(b, nil)
	if len(found) > 0 {
		if e.pools[b.Service] == nil {
			e.pools[b.Service] = map[string][]*endpoint{}
		}
		e.pools[b.Service][b.Port] = found
	}
	return found
}

// lookup reads what a backend leads to: the endpoints that are ready, or, when there are none, those on their way out that still serve. Endpoints that
// old has keep their connections.
func (e *endpoints) lookup(b route.Backend, old []*endpoint) []*endpoint {
	service, ok := e.services.Get(b.Service.Namespace, b.Service.Name)
	if !ok {
		return nil
	}
	port := portOf(service, b.Port)
	if port == nil {
		return nil
	}
	known := map[string]*endpoint{}
	for _, at := range old {
		known[at.address] = at
	}
	var here, leaving []*endpoint
	seen := map[string]bool{}
	for _, slice := range e.slices.ByIndex(byService, b.Service.String()) {
		facts := state.SliceOf(slice)
		for _, target := range facts.Ports {
			if target.Name != port.Name || target.Protocol != state.TCP {
				continue
			}
			for _, at := range facts.Endpoints {
				address := netip.AddrPortFrom(at.Addr, target.Port).String()
				if seen[address] || !at.Ready && !(at.Serving && at.Terminating) {
					continue
				}
				seen[address] = true
				next := known[address]
				if next == nil || next.scheme != schemeOf(port) {
					next = newEndpoint(address, schemeOf(port), e.dial)
				}
				if at.Ready {
					here = append(here, next)
				} else {
					leaving = append(leaving, next)
				}
			}
		}
	}
	if len(here) == 0 {
		return leaving
	}
	return here
}

// portOf finds a port of a Service by name or number.
func portOf(s *corev1.Service, port string) *corev1.ServicePort {
	for i, p := range s.Spec.Ports {
		if p.Name == port || strconv.Itoa(int(p.Port)) == port {
			return &s.Spec.Ports[i]
		}
	}
	return nil
}

// schemeOf is how the endpoints of a port are spoken to (KEP-3726): over HTTP/1.1, HTTP/2 without TLS, or TLS.
func schemeOf(p *corev1.ServicePort) string {
	if p.AppProtocol == nil {
		return "http"
	}
	switch *p.AppProtocol {
	case "kubernetes.io/h2c":
		return "h2c"
	case "https", "HTTPS":
		return "https"
	}
	return "http"
}

func newEndpoint(address, scheme string, dial dialer) *endpoint {
	e := &endpoint{address: address, scheme: scheme}
	e.transport = &http.Transport{
		DialContext:           dial,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: responseTimeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   64,
		DisableCompression:    true, // bodies pass as they are
		// Pods have certificates that nobody could check: their addresses come and go. What is asked for is that the way is encrypted.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}
	if e.scheme == "h2c" {
		e.transport.Protocols = new(http.Protocols)
		e.transport.Protocols.SetUnencryptedHTTP2(true)
	}
	return e
}

// urlScheme is that of requests to the endpoint.
func (e *endpoint) urlScheme() string {
	if e.scheme == "https" {
		return "https"
	}
	return "http"
}

func (e *endpoints) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ports := range e.pools {
		for _, all := range ports {
			for _, at := range all {
				at.transport.CloseIdleConnections()
			}
		}
	}
}
