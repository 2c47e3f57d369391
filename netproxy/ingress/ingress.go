// Package ingress serves Ingresses: it takes HTTP and HTTPS requests from outside and sends each to an endpoint of the Service that the rules name.
//
// A node serves while its Node carries the label "hardway/ingress", and only then knows anything about Ingresses: [Proxy.Run] waits for the label,
// watches the objects, builds a table of them (package route) at every change, and puts it in place of the last one in one step; a request is judged
// by one table. Endpoints are reached directly and not through the Service's address, so that requests and not connections are balanced, and one whose
// endpoint cannot be reached is given to another.
//
// Private keys come from Secrets of type kubernetes.io/tls alone, with an identity of its own: the proxy of Services must not be able to read them.
package ingress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	corev1 "k8s.io/api/core/v1"

	"hardway/netproxy/state"
	"hardway/shared/client"
	"hardway/shared/daemon"
	"hardway/shared/mtls"
)

// Label on a Node makes it serve Ingresses; its value does not matter.
const Label = "hardway/ingress"

// maxConnections bounds the connections on each of the two ports. Beyond them, new ones wait.
const maxConnections = 16384

// Config says where and how.
type Config struct {
	Node        string
	HTTP, HTTPS string // addresses to listen on; empty: not at all
	// Certificate is the Secret for hosts that no Ingress has one for; zero: a certificate signed by itself.
	Certificate state.Name
	AccessLog   bool // a line of the log for each request
}

// Proxy serves Ingresses on one node.
type Proxy struct {
	cfg     Config
	api     *client.API
	events  *client.Recorder
	metrics *metrics
	log     *zap.Logger
	dial    dialer
	listen  func(address string) (net.Listener, error)

	nodes     *client.Informer[corev1.Node] // those with the label
	informers *client.Informers
	relabeled chan struct{}
}

// New makes the proxy. The identity of api needs the rights that the README lists.
func New(api *client.API, cfg Config, reg prometheus.Registerer, log *zap.Logger) *Proxy {
	p := &Proxy{cfg: cfg, api: api, events: client.NewRecorder(api, "hardway-ingress", cfg.Node), metrics: newMetrics(reg), log: log,
		dial: (&net.Dialer{Timeout: dialTimeout}).DialContext, listen: daemon.Listen,
		informers: client.NewInformers(api, log), relabeled: make(chan struct{}, 1)}
	p.nodes = client.Nodes.Informer(p.informers, client.Options{LabelSelector: Label})
	p.nodes.OnChange(func(old, now *corev1.Node) {
		if old == nil || now == nil || ready(old) != ready(now) || addressOf(old) != addressOf(now) {
			poke(p.relabeled)
		}
	})
	return p
}

// poke leaves one token.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run serves while the node has the label, until ctx ends. A port that cannot be opened is an Event on the Node, and tried again.
func (p *Proxy) Run(ctx context.Context) error {
	var g daemon.Group
	g.Add("events", p.events.Run)
	g.Add("nodes", p.informers.Run)
	g.Add("serve", func(ctx context.Context) error {
		for wait := time.Duration(0); ctx.Err() == nil; {
			if !p.wanted() {
				wait = 0
				select {
				case <-ctx.Done():
				case <-p.relabeled:
				}
				continue
			}
			started := time.Now()
			if err := p.session(ctx); err != nil {
				p.log.Warn("serving Ingresses; trying again", zap.Error(err))
				if node, ok := p.nodes.Get("", p.cfg.Node); ok {
					p.events.Event(node, corev1.EventTypeWarning, "IngressNotServed", "%v", err)
				}
			}
			if time.Since(started) > time.Minute {
				wait = 0
			}
			wait = min(max(2*wait, time.Second), time.Minute)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
		return nil
	})
	return g.Run(ctx)
}

func (p *Proxy) wanted() bool {
	_, ok := p.nodes.Get("", p.cfg.Node)
	return ok
}

// session serves until the label goes or ctx ends.
func (p *Proxy) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unsigned, err := mtls.ServerOrSelfSigned(mtls.Files{})
	if err != nil {
		return err
	}
	t := newTables(p, &unsigned.Certificates[0])
	h := newHandler(t, newEndpoints(t.services, t.slices, p.dial))
	var g daemon.Group
	for _, s := range []struct {
		name, address string
		tls           *tls.Config
	}{{"http", p.cfg.HTTP, nil}, {"https", p.cfg.HTTPS, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: t.certificate}}} {
		if s.address == "" {
			continue
		}
		l, err := p.listen(s.address)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer l.Close() //nolint:errcheck // it may be closed already
		g.Add(s.name, func(ctx context.Context) error { return t.serve(ctx, l, s.tls, h) })
	}
	g.Add("informers", t.informers.Run)
	g.Add("tables", t.run)
	g.Add("label", func(ctx context.Context) error {
		defer cancel()
		for p.wanted() {
			select {
			case <-ctx.Done():
				return nil
			case <-p.relabeled:
				poke(t.changed) // the addresses in the statuses may be others now
			}
		}
		return nil
	})
	defer h.endpoints.close()
	return g.Run(ctx)
}

// serve answers on l as soon as there is a table: before, everything would be "not found".
func (t *tables) serve(ctx context.Context, l net.Listener, cfg *tls.Config, h http.Handler) error {
	select {
	case <-ctx.Done():
		return nil
	case <-t.ready:
	}
	t.p.log.Info("serving Ingresses", zap.Stringer("address", l.Addr()), zap.Bool("tls", cfg != nil))
	return daemon.Serve(ctx, netutil.LimitListener(l, maxConnections), cfg, h, t.p.log)
}
