package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/netproxy/ingress/route"
	"hardway/netproxy/state"
	"hardway/shared/client"
)

// tables keeps the table of routes, and the certificates, as the API has them.
type tables struct {
	p         *Proxy
	unsigned  *tls.Certificate // for hosts without one
	informers *client.Informers
	ingresses *client.Informer[networkingv1.Ingress]
	classes   *client.Informer[networkingv1.IngressClass]
	services  *client.Informer[corev1.Service]
	slices    *client.Informer[discoveryv1.EndpointSlice]
	secrets   *client.Informer[corev1.Secret]

	changed chan struct{} // holds a token when there is something to do
	ready   chan struct{} // closed when there is a table
	now     atomic.Pointer[table]

	told map[route.Problem]bool // what Events were written about; of run alone
}

// table is one state of everything. It does not change.
type table struct {
	*route.Table
	certificates map[state.Name]certificate
}

// certificate is what a Secret of some version holds.
type certificate struct {
	version string
	pair    *tls.Certificate // nil: none that can be used
	problem string
}

// byService is the index of EndpointSlices by "namespace/service".
const byService = "service"

func newTables(p *Proxy, unsigned *tls.Certificate) *tables {
	in := client.NewInformers(p.api, p.log)
	t := &tables{p: p, unsigned: unsigned, informers: in, changed: make(chan struct{}, 1), ready: make(chan struct{}), told: map[route.Problem]bool{},
		ingresses: client.Ingresses.Informer(in, client.Options{}),
		classes:   client.IngressClasses.Informer(in, client.Options{}),
		services:  client.Services.Informer(in, client.Options{Transform: trim}),
		slices: client.EndpointSlices.Informer(in, client.Options{Transform: trim, Indexes: map[string]func(any) []string{byService: func(obj any) []string {
			s := obj.(*discoveryv1.EndpointSlice)
			return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
		}}}),
		secrets: client.Secrets.Informer(in, client.Options{FieldSelector: "type=" + string(corev1.SecretTypeTLS), Transform: trim}),
	}
	t.ingresses.OnChange(func(_, _ *networkingv1.Ingress) { poke(t.changed) })
	t.classes.OnChange(func(_, _ *networkingv1.IngressClass) { poke(t.changed) })
	t.secrets.OnChange(func(_, _ *corev1.Secret) { poke(t.changed) })
	return t
}

// trim drops what is never read before an object is kept.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		o.ManagedFields, o.Annotations, o.Labels, o.Spec.Selector = nil, nil, nil, nil
	case *discoveryv1.EndpointSlice:
		o.ManagedFields, o.OwnerReferences, o.Annotations = nil, nil, nil
		for i := range o.Endpoints {
			o.Endpoints[i].TargetRef = nil
		}
	case *corev1.Secret:
		o.ManagedFields, o.Annotations, o.Labels = nil, nil, nil
	}
	return obj, nil
}

// run builds a table at every change until ctx ends. Changes that come while one is built are in the next.
func (t *tables) run(ctx context.Context) error {
	if !t.informers.WaitForSync(ctx) {
		return nil
	}
	t.build()
	close(t.ready)
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.changed:
			t.build()
		case <-retry.C:
		}
		if err := t.publish(ctx); err != nil && ctx.Err() == nil {
			t.p.log.Warn("writing the addresses of Ingresses; trying again", zap.Error(err))
			retry.Reset(5 * time.Second)
		}
	}
}

func (t *tables) build() {
	next := &table{route.Build(slices.Collect(t.ingresses.All()), slices.Collect(t.classes.All())), map[state.Name]certificate{}}
	wanted := next.Secrets()
	if t.p.cfg.Certificate != (state.Name{}) {
		wanted[t.p.cfg.Certificate] = true
	}
	last := t.now.Load()
	for name := range wanted {
		secret, ok := t.secrets.Get(name.Namespace, name.Name)
		if !ok {
			next.certificates[name] = certificate{problem: "there is no Secret of type kubernetes.io/tls with that name"}
			continue
		}
		if last != nil && last.certificates[name].version == secret.ResourceVersion {
			next.certificates[name] = last.certificates[name]
			continue
		}
		next.certificates[name] = open(secret)
	}
	t.now.Store(next)
	t.p.metrics.built(next)
	t.tell(next)
}

func open(s *corev1.Secret) certificate {
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return certificate{version: s.ResourceVersion, problem: err.Error()}
	}
	return certificate{version: s.ResourceVersion, pair: &pair}
}

// tell writes an Event on each Ingress that cannot be served as it says, once for as long as that is so.
func (t *tables) tell(now *table) {
	problems := map[route.Problem]bool{}
	byName := map[state.Name]runtime.Object{}
	for _, in := range now.Served {
		own := state.Name{Namespace: in.Namespace, Name: in.Name}
		byName[own] = in
		for _, entry := range in.Spec.TLS {
			secret := state.Name{Namespace: in.Namespace, Name: entry.SecretName}
			if c := now.certificates[secret]; c.problem != "" {
				problems[route.Problem{Ingress: own, Text: fmt.Sprintf("certificate of Secret %s: %s", secret, c.problem)}] = true
			}
		}
	}
	for _, p := range now.Problems {
		problems[p] = true
	}
	for p := range problems {
		if !t.told[p] {
			t.p.events.Event(byName[p.Ingress], corev1.EventTypeWarning, "NotServed", "%s", p.Text)
		}
	}
	t.told = problems
}

// certificate answers a handshake.
func (t *tables) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := t.now.Load()
	if now == nil {
		return nil, errors.New("no table of Ingresses yet")
	}
	if name, ok := now.Secret(hello.ServerName); ok && now.certificates[name].pair != nil {
		return now.certificates[name].pair, nil
	}
	if pair := now.certificates[t.p.cfg.Certificate].pair; pair != nil {
		return pair, nil
	}
	return t.unsigned, nil
}

// leaf is the certificate itself, for its dates.
func (c certificate) leaf() *x509.Certificate {
	if c.pair == nil {
		return nil
	}
	return c.pair.Leaf
}
