// Package state follows the API and tells the zone what changed.
//
// It watches Services, EndpointSlices and Namespaces, and Pods where pod records are verified. Events only mark names; what a change says is read from the informers at that moment, so it
// is never older than the event that led to it. If the API cannot be reached, nothing changes: names go on being answered as they were last known.
package state

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/dns/zone"
	"hardway/shared/client"
)

// byService is the index of EndpointSlices by "namespace/service".
const byService = "service"

// Tracker collects what changed. Its memory is bounded by the number of services and namespaces.
type Tracker struct {
	services   *client.Informer[corev1.Service]
	slices     *client.Informer[discoveryv1.EndpointSlice]
	namespaces *client.Informer[corev1.Namespace]
	pods       *client.Informer[corev1.Pod] // nil: not watched

	wake chan struct{} // holds one token while there are marks

	mu      sync.Mutex
	marked  map[zone.Key]time.Time // with the oldest trigger of a change; guarded by mu
	spaces  map[string]bool        // guarded by mu
	podded  map[zone.Pod]bool      // guarded by mu
	started time.Time
}

// NewTracker asks for the informers that it needs; for that of pods if so told.
func NewTracker(in *client.Informers, pods bool) *Tracker {
	t := &Tracker{
		services: client.Services.Informer(in, client.Options{Transform: trim}),
		slices: client.EndpointSlices.Informer(in, client.Options{Transform: trim, Indexes: map[string]func(any) []string{
			byService: func(obj any) []string {
				key := serviceOf(obj.(*discoveryv1.EndpointSlice))
				return []string{key.Namespace + "/" + key.Name}
			}}}),
		namespaces: client.Namespaces.Informer(in, client.Options{Transform: trim}),
		wake:       make(chan struct{}, 1),
		marked:     map[zone.Key]time.Time{},
		spaces:     map[string]bool{},
		podded:     map[zone.Pod]bool{},
		started:    time.Now(),
	}
	t.services.OnChange(func(old, now *corev1.Service) {
		s := cmp.Or(now, old)
		t.mark(zone.Key{Namespace: s.Namespace, Name: s.Name}, time.Time{})
	})
	t.slices.OnChange(func(old, now *discoveryv1.EndpointSlice) {
		for _, s := range []*discoveryv1.EndpointSlice{old, now} {
			if s != nil {
				t.mark(serviceOf(s), t.trigger(now))
			}
		}
	})
	t.namespaces.OnChange(func(old, now *corev1.Namespace) {
		if old == nil || now == nil {
			t.space(cmp.Or(now, old).Name)
		}
	})
	if pods {
		t.pods = client.Pods.Informer(in, client.Options{Transform: trim, Indexes: map[string]func(any) []string{byAddress: addressesOf}})
		t.pods.OnChange(func(old, now *corev1.Pod) {
			for _, p := range []*corev1.Pod{old, now} {
				if p != nil {
					t.pod(p)
				}
			}
		})
	}
	return t
}

// byAddress is the index of Pods by "namespace/address".
const byAddress = "address"

func addressesOf(obj any) []string {
	var out []string
	p := obj.(*corev1.Pod)
	for _, a := range podsOf(p) {
		out = append(out, a.Namespace+"/"+a.Addr.String())
	}
	return out
}

// podsOf are the addresses of a pod that has not ended.
func podsOf(p *corev1.Pod) []zone.Pod {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	var out []zone.Pod
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, zone.Pod{Namespace: p.Namespace, Addr: a})
		}
	}
	return out
}

// trim drops what names do not depend on.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		o.ManagedFields, o.Annotations, o.Labels, o.OwnerReferences, o.Spec.Selector, o.Status = nil, nil, nil, nil, nil, corev1.ServiceStatus{}
	case *discoveryv1.EndpointSlice:
		o.ManagedFields, o.OwnerReferences = nil, nil
		o.Labels = map[string]string{discoveryv1.LabelServiceName: o.Labels[discoveryv1.LabelServiceName]}
		if trigger, ok := o.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
			o.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: trigger}
		}
		for i := range o.Endpoints {
			e := &o.Endpoints[i]
			e.TargetRef, e.DeprecatedTopology, e.Hints, e.NodeName, e.Zone = nil, nil, nil, nil, nil
		}
	case *corev1.Pod:
		*o = corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion},
			Status: corev1.PodStatus{Phase: o.Status.Phase, PodIPs: o.Status.PodIPs}}
	case *corev1.Namespace:
		*o = corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Name, ResourceVersion: o.ResourceVersion}}
	}
	return obj, nil
}

func serviceOf(s *discoveryv1.EndpointSlice) zone.Key {
	return zone.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// trigger is when the change behind a slice was made; zero if unknown, or before this process began.
func (t *Tracker) trigger(s *discoveryv1.EndpointSlice) time.Time {
	if s == nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil || at.Before(t.started) {
		return time.Time{}
	}
	return at
}

func (t *Tracker) mark(k zone.Key, trigger time.Time) {
	t.mu.Lock()
	if old, marked := t.marked[k]; !marked || old.IsZero() || !trigger.IsZero() && trigger.Before(old) {
		t.marked[k] = trigger
	}
	t.mu.Unlock()
	t.poke()
}

func (t *Tracker) space(name string) {
	t.mu.Lock()
	t.spaces[name] = true
	t.mu.Unlock()
	t.poke()
}

func (t *Tracker) pod(p *corev1.Pod) {
	t.mu.Lock()
	for _, a := range podsOf(p) {
		t.podded[a] = true
	}
	t.mu.Unlock()
	t.poke()
}

func (t *Tracker) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// All marks everything there is, for the first zone after the informers have synced.
func (t *Tracker) All() {
	for s := range t.services.All() {
		t.mark(zone.Key{Namespace: s.Namespace, Name: s.Name}, time.Time{})
	}
	for n := range t.namespaces.All() {
		t.space(n.Name)
	}
	if t.pods != nil {
		for p := range t.pods.All() {
			t.pod(p)
		}
	}
	t.poke()
}

// Ready receives when there is something for Take.
func (t *Tracker) Ready() <-chan struct{} { return t.wake }

// Take returns all that changed since the last call, and when the endpoint changes among them were made.
func (t *Tracker) Take() (zone.Changes, []time.Time) {
	t.mu.Lock()
	marked, spaces, pods := t.marked, t.spaces, t.podded
	t.marked, t.spaces, t.podded = map[zone.Key]time.Time{}, map[string]bool{}, map[zone.Pod]bool{}
	t.mu.Unlock()

	out := zone.Changes{Services: make(map[zone.Key]*zone.Service, len(marked)), Namespaces: make(map[string]bool, len(spaces))}
	var triggers []time.Time
	for k, at := range marked {
		out.Services[k] = t.service(k)
		if !at.IsZero() {
			triggers = append(triggers, at)
		}
	}
	for name := range spaces {
		_, out.Namespaces[name] = t.namespaces.Get("", name)
	}
	if len(pods) > 0 {
		out.Pods = pods
		for p := range pods {
			pods[p] = len(t.pods.ByIndex(byAddress, p.Namespace+"/"+p.Addr.String())) > 0
		}
	}
	return out, triggers
}

func (t *Tracker) service(k zone.Key) *zone.Service {
	s, ok := t.services.Get(k.Namespace, k.Name)
	if !ok {
		return nil
	}
	return ServiceOf(s, t.slices.ByIndex(byService, k.Namespace+"/"+k.Name))
}

// ServiceOf takes from a Service and its EndpointSlices what names depend on.
func ServiceOf(s *corev1.Service, from []*discoveryv1.EndpointSlice) *zone.Service {
	out := &zone.Service{Key: zone.Key{Namespace: s.Namespace, Name: s.Name}}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		out.External = strings.TrimSuffix(s.Spec.ExternalName, ".") + "."
		return out
	}
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		out.Headless = true
		out.Endpoints = endpointsOf(from)
		return out
	}
	clusterIPs := s.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{s.Spec.ClusterIP}
	}
	for _, text := range clusterIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			out.Addrs = append(out.Addrs, a)
		}
	}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			out.Ports = append(out.Ports, zone.Port{Name: strings.ToLower(p.Name), Proto: protocol(&p.Protocol), Port: uint16(p.Port)})
		}
	}
	return out
}

// endpointsOf collects the ready endpoints, each address once for each host name.
func endpointsOf(from []*discoveryv1.EndpointSlice) []zone.Endpoint {
	var out []zone.Endpoint
	for _, s := range from {
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		var ports []zone.Port
		for _, p := range s.Ports {
			if p.Name != nil && *p.Name != "" && p.Port != nil {
				ports = append(ports, zone.Port{Name: strings.ToLower(*p.Name), Proto: protocol(p.Protocol), Port: uint16(*p.Port)})
			}
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			a, err := netip.ParseAddr(e.Addresses[0])
			if err != nil {
				continue
			}
			out = append(out, endpoint(a.Unmap(), e.Hostname, ports))
		}
	}
	slices.SortFunc(out, func(a, b zone.Endpoint) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Host, b.Host)) })
	return slices.CompactFunc(out, func(a, b zone.Endpoint) bool {
		return a.Addr == b.Addr && a.Host == b.Host && slices.Equal(a.Ports, b.Ports)
	})
}

func endpoint(a netip.Addr, hostname *string, ports []zone.Port) zone.Endpoint {
	e := zone.Endpoint{Addr: a, Ports: ports}
	if hostname != nil && *hostname != "" {
		e.Host, e.Named = strings.ToLower(*hostname), true
		return e
	}
	e.Host = strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
	return e
}

func protocol(p *corev1.Protocol) string {
	if p == nil || *p == "" {
		return "tcp"
	}
	return strings.ToLower(string(*p))
}
