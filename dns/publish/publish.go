// Package publish tells the cluster where name servers are.
//
// The Service kube-system/kube-dns has no selector. Each daemon writes one EndpointSlice for it, kube-dns-<node>, with a hint that the endpoint is for
// its own node, and takes it away when it stops. The slice belongs to the Node, so it goes with it. A daemon that died with its machine cannot
// say so: the others set its endpoint to not ready once the node's state is unknown, and it sets itself ready again when it is back.
package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

// Names of what is published.
const (
	Namespace = "kube-system"
	Service   = "kube-dns"
	ManagedBy = "dns.hardway"
)

const (
	// Failed writes are repeated after retryFirst, then after twice the time, up to retryMost.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
	// goodbye bounds the removal of the slice at exit.
	goodbye = 2 * time.Second
	// linger is how long the server still answers after the slice is gone, at least: for proxies to hear of it.
	linger = 300 * time.Millisecond
)

// Endpoint is what this daemon publishes about itself.
type Endpoint struct {
	Node       string
	Addr       netip.Addr
	Port       uint16
	Metrics    uint16 // 0: none
	ClusterDNS netip.Addr
	// Linger is how long the server still answers after it has taken its endpoint away; at least 300 ms.
	Linger func() time.Duration
}

// Publisher keeps the published objects as they should be.
type Publisher struct {
	api  *client.API
	own  Endpoint
	log  *zap.Logger
	wake chan struct{}

	slices   *client.Informer[discoveryv1.EndpointSlice]
	services *client.Informer[corev1.Service]
	nodes    *client.Informer[corev1.Node]
}

// New asks for the informers that it needs.
func New(api *client.API, in *client.Informers, own Endpoint, log *zap.Logger) *Publisher {
	p := &Publisher{api: api, own: own, log: log, wake: make(chan struct{}, 1),
		slices: client.EndpointSlices.Informer(in, client.Options{Namespace: Namespace,
			LabelSelector: discoveryv1.LabelManagedBy + "=" + ManagedBy}),
		services: client.Services.Informer(in, client.Options{Namespace: Namespace, FieldSelector: "metadata.name=" + Service}),
		nodes:    client.Nodes.Informer(in, client.Options{Transform: trimNode}),
	}
	p.slices.OnChange(func(_, _ *discoveryv1.EndpointSlice) { p.poke() })
	p.services.OnChange(func(_, now *corev1.Service) {
		if now == nil {
			p.poke()
		}
	})
	p.nodes.OnChange(func(old, now *corev1.Node) {
		if old == nil || now == nil || unknown(old) != unknown(now) || zoneOf(old) != zoneOf(now) {
			p.poke()
		}
	})
	return p
}

// trimNode keeps what the publisher looks at: a node's identity, its zone, and whether it is ready.
func trimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	kept := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion}}
	if z := zoneOf(n); z != "" {
		kept.Labels = map[string]string{corev1.LabelTopologyZone: z}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			kept.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	*n = kept
	return n, nil
}

func zoneOf(n *corev1.Node) string { return n.Labels[corev1.LabelTopologyZone] }

// unknown reports whether nobody has heard of a node for so long that it counts as lost.
func unknown(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionUnknown
		}
	}
	return false
}

func (p *Publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends, and then takes the endpoint away. It starts when the server serves.
func (p *Publisher) Run(ctx context.Context) error {
	p.poke()
	delay := time.Duration(0)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.leave(context.WithoutCancel(ctx))
		case <-p.wake:
		case <-retry.C:
		}
		if err := p.ensure(ctx); err != nil && ctx.Err() == nil {
			delay = min(max(2*delay, retryFirst), retryMost)
			retry.Reset(delay)
			p.log.Warn("publish; trying again", zap.Error(err), zap.Duration("in", delay))
		} else {
			delay = 0
		}
	}
}

// ensure writes what is not as it should be.
func (p *Publisher) ensure(ctx context.Context) error {
	return errors.Join(p.ensureService(ctx), p.ensureSlice(ctx), p.ensurePeers(ctx))
}

func (p *Publisher) ensureService(ctx context.Context) error {
	if s, ok := p.services.Get(Namespace, Service); ok {
		if s.Spec.ClusterIP != p.own.ClusterDNS.String() {
			return fmt.Errorf("service %s/%s has the cluster IP %s, not %s: pods are told the latter", Namespace, Service, s.Spec.ClusterIP, p.own.ClusterDNS)
		}
		return nil
	}
	_, err := client.Services.Create(ctx, p.api, p.service())
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create service %s/%s: %w", Namespace, Service, err)
	}
	if err == nil {
		p.log.Info("created the service", zap.String("namespace", Namespace), zap.String("name", Service), zap.Stringer("clusterIP", p.own.ClusterDNS))
	}
	return nil
}

func (p *Publisher) service() *corev1.Service {
	near := corev1.ServiceTrafficDistributionPreferSameNode
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: Service, Labels: map[string]string{
			"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
		Spec: corev1.ServiceSpec{
			ClusterIP:           p.own.ClusterDNS.String(),
			TrafficDistribution: &near,
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53},
				{Name: "metrics", Protocol: corev1.ProtocolTCP, Port: 9153},
			},
		},
	}
}

func (p *Publisher) sliceName() string { return Service + "-" + p.own.Node }

func (p *Publisher) ensureSlice(ctx context.Context) error {
	want := p.slice()
	is, ok := p.slices.Get(Namespace, want.Name)
	if !ok {
		_, err := client.EndpointSlices.Create(ctx, p.api, want)
		if !apierrors.IsAlreadyExists(err) {
			return wrap(err, "create endpoint slice %s/%s", Namespace, want.Name)
		}
		if is, err = client.EndpointSlices.Get(ctx, p.api, Namespace, want.Name); err != nil {
			return wrap(err, "get endpoint slice %s/%s", Namespace, want.Name)
		}
	}
	if same(is, want) {
		return nil
	}
	if is.AddressType != want.AddressType {
		// The type cannot change. The deletion comes back as an event, and then the slice is created.
		return wrap(client.EndpointSlices.Delete(ctx, p.api, Namespace, want.Name, metav1.DeleteOptions{}), "delete endpoint slice %s/%s", Namespace, want.Name)
	}
	update := is.DeepCopy()
	if update.Labels == nil {
		update.Labels = map[string]string{}
	}
	maps.Copy(update.Labels, want.Labels)
	update.OwnerReferences, update.Endpoints, update.Ports = want.OwnerReferences, want.Endpoints, want.Ports
	_, err := client.EndpointSlices.Update(ctx, p.api, update)
	return wrap(err, "update endpoint slice %s/%s", Namespace, want.Name)
}

// slice is this daemon's own.
func (p *Publisher) slice() *discoveryv1.EndpointSlice {
	node, known := p.nodes.Get("", p.own.Node)
	ready := !known || !unknown(node)
	kind := discoveryv1.AddressTypeIPv4
	if p.own.Addr.Is6() {
		kind = discoveryv1.AddressTypeIPv6
	}
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: p.sliceName(), Labels: map[string]string{
			discoveryv1.LabelServiceName: Service, discoveryv1.LabelManagedBy: ManagedBy}},
		AddressType: kind,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{p.own.Addr.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: new(bool)},
			NodeName:   &p.own.Node,
			Hints:      &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: p.own.Node}}},
		}},
		Ports: []discoveryv1.EndpointPort{endpointPort("dns", corev1.ProtocolUDP, p.own.Port), endpointPort("dns-tcp", corev1.ProtocolTCP, p.own.Port)},
	}
	if p.own.Metrics != 0 {
		s.Ports = append(s.Ports, endpointPort("metrics", corev1.ProtocolTCP, p.own.Metrics))
	}
	if known {
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
		if z := zoneOf(node); z != "" {
			s.Endpoints[0].Zone = &z
		}
	}
	return s
}

func endpointPort(name string, protocol corev1.Protocol, port uint16) discoveryv1.EndpointPort {
	number := int32(port)
	return discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number}
}

// same reports whether a slice says what it should.
func same(is, want *discoveryv1.EndpointSlice) bool {
	for k, v := range want.Labels {
		if is.Labels[k] != v {
			return false
		}
	}
	return is.AddressType == want.AddressType && equality.Semantic.DeepEqual(is.OwnerReferences, want.OwnerReferences) &&
		equality.Semantic.DeepEqual(is.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(is.Ports, want.Ports)
}

// ensurePeers sets the endpoints of lost nodes to not ready. Several daemons may do so at once; one succeeds, and the others find it done.
func (p *Publisher) ensurePeers(ctx context.Context) error {
	var failures []error
	for s := range p.slices.All() {
		if s.Name == p.sliceName() || len(s.Endpoints) != 1 || s.Endpoints[0].NodeName == nil {
			continue
		}
		node, known := p.nodes.Get("", *s.Endpoints[0].NodeName)
		ready := s.Endpoints[0].Conditions.Ready
		if !known || !unknown(node) || ready != nil && !*ready {
			continue
		}
		update := s.DeepCopy()
		update.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: new(bool), Serving: new(bool), Terminating: new(bool)}
		if _, err := client.EndpointSlices.Update(ctx, p.api, update); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			failures = append(failures, fmt.Errorf("update endpoint slice %s/%s of a lost node: %w", s.Namespace, s.Name, err))
		} else if err == nil {
			p.log.Info("the name server of a lost node is not ready", zap.String("node", node.Name))
		}
	}
	return errors.Join(failures...)
}

// leave takes the endpoint away and gives proxies a moment to hear of it.
func (p *Publisher) leave(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	err := client.EndpointSlices.Delete(limited, p.api, Namespace, p.sliceName(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		p.log.Warn("the endpoint stays published", zap.Error(err))
		return nil
	}
	<-time.After(max(linger, p.own.Linger()))
	return nil
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
