package state

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

// byService is the index of EndpointSlices by "namespace/service".
const byService = "service"

// Labels that take a Service or a slice away from this proxy.
const (
	notForeign  = "!service.kubernetes.io/service-proxy-name"
	notHeadless = "!service.kubernetes.io/headless"
)

// Tracker follows the API and says what changed. Events only mark services; what a change hands out is read from the informers at that moment,
// so it is never older than the event that led to it, and the memory of what changed is bounded by the number of services.
type Tracker struct {
	nodeName         string
	allowExternalIPs bool
	log              *zap.Logger

	services *client.Informer[corev1.Service]
	slices   *client.Informer[discoveryv1.EndpointSlice]
	nodes    *client.Informer[corev1.Node]

	wake chan struct{} // holds one token while there are marks

	mu     sync.Mutex
	marked map[Name]time.Time // services to look at again, with the oldest trigger; guarded by mu
	node   bool               // this node changed; guarded by mu
	warned map[Name]bool      // services whose externalIPs were refused; guarded by mu
}

// NewTracker asks for the informers that it needs. nodeName is the node that the proxy runs on.
func NewTracker(in *client.Informers, nodeName string, allowExternalIPs bool, log *zap.Logger) *Tracker {
	t := &Tracker{
		nodeName: nodeName, allowExternalIPs: allowExternalIPs, log: log,
		services: client.Services.Informer(in, client.Options{LabelSelector: notForeign, Transform: trim}),
		slices: client.EndpointSlices.Informer(in, client.Options{LabelSelector: notHeadless + "," + notForeign, Transform: trim,
			Indexes: map[string]func(any) []string{byService: func(obj any) []string {
				return []string{serviceOf(obj.(*discoveryv1.EndpointSlice)).String()}
			}}}),
		nodes:  client.Nodes.Informer(in, client.Options{FieldSelector: "metadata.name=" + nodeName, Transform: trim}),
		wake:   make(chan struct{}, 1),
		marked: map[Name]time.Time{},
		warned: map[Name]bool{},
	}
	started := time.Now()
	t.services.OnChange(func(old, now *corev1.Service) {
		s := cmp.Or(now, old)
		t.mark(Name{s.Namespace, s.Name}, time.Time{})
	})
	t.slices.OnChange(func(old, now *discoveryv1.EndpointSlice) {
		var trigger time.Time
		if now != nil {
			trigger, _ = time.Parse(time.RFC3339Nano, now.Annotations[corev1.EndpointsLastChangeTriggerTime])
			if trigger.Before(started) {
				trigger = time.Time{} // not a change that this proxy could have been quick about
			}
		}
		for _, s := range []*discoveryv1.EndpointSlice{old, now} {
			if s != nil {
				t.mark(serviceOf(s), trigger)
			}
		}
	})
	t.nodes.OnChange(func(_, _ *corev1.Node) {
		t.mu.Lock()
		t.node = true
		t.mu.Unlock()
		t.poke()
	})
	return t
}

// trim drops what the proxy never reads before an object is kept.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		o.ManagedFields, o.Annotations, o.Labels, o.Spec.Selector = nil, nil, nil, nil
	case *discoveryv1.EndpointSlice:
		o.ManagedFields, o.OwnerReferences = nil, nil
		o.Labels = map[string]string{discoveryv1.LabelServiceName: o.Labels[discoveryv1.LabelServiceName]}
		if trigger, ok := o.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
			o.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: trigger}
		}
		for i := range o.Endpoints {
			o.Endpoints[i].TargetRef, o.Endpoints[i].DeprecatedTopology = nil, nil
		}
	case *corev1.Node:
		kept := map[string]string{}
		for _, name := range []string{corev1.LabelTopologyZone, corev1.LabelNodeExcludeBalancers} {
			if value, ok := o.Labels[name]; ok {
				kept[name] = value
			}
		}
		o.ObjectMeta = metav1.ObjectMeta{Name: o.Name, ResourceVersion: o.ResourceVersion, DeletionTimestamp: o.DeletionTimestamp, Labels: kept}
		o.Status = corev1.NodeStatus{Addresses: o.Status.Addresses, Conditions: o.Status.Conditions}
	}
	return obj, nil
}

func serviceOf(s *discoveryv1.EndpointSlice) Name {
	return Name{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
}

func (t *Tracker) mark(n Name, trigger time.Time) {
	t.mu.Lock()
	old, marked := t.marked[n]
	if !marked || old.IsZero() || !trigger.IsZero() && trigger.Before(old) {
		t.marked[n] = trigger
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

// All marks every service there is, for the first step after the informers have synced.
func (t *Tracker) All() {
	for s := range t.services.All() {
		t.mark(Name{s.Namespace, s.Name}, time.Time{})
	}
	t.mu.Lock()
	t.node = true
	t.mu.Unlock()
	t.poke()
}

// Ready receives when there is something for Take.
func (t *Tracker) Ready() <-chan struct{} { return t.wake }

// Take returns all that changed since the last call. It may be empty.
func (t *Tracker) Take() Changes {
	t.mu.Lock()
	marked, node := t.marked, t.node
	t.marked, t.node = make(map[Name]time.Time), false
	t.mu.Unlock()

	var out Changes
	for name, trigger := range marked {
		out.Services = append(out.Services, Change{Name: name, Facts: t.facts(name), Triggered: trigger})
	}
	slices.SortFunc(out.Services, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Name.Namespace, b.Name.Namespace), cmp.Compare(a.Name.Name, b.Name.Name))
	})
	if node {
		n := Node{Name: t.nodeName}
		if o, ok := t.nodes.Get("", t.nodeName); ok {
			n = NodeOf(o)
		}
		out.Node = &n
	}
	return out
}

func (t *Tracker) facts(name Name) Facts {
	s, ok := t.services.Get(name.Namespace, name.Name)
	if !ok {
		t.forget(name)
		return Facts{}
	}
	if len(s.Spec.ExternalIPs) > 0 && !t.allowExternalIPs {
		t.warn(name, s.Spec.ExternalIPs)
	}
	facts := Facts{Service: ServiceOf(s, t.allowExternalIPs)}
	if facts.Service == nil {
		return Facts{}
	}
	found := t.slices.ByIndex(byService, name.String())
	slices.SortFunc(found, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range found {
		facts.Slices = append(facts.Slices, SliceOf(s))
	}
	return facts
}

// warn says once per service that its externalIPs do nothing.
func (t *Tracker) warn(name Name, ips []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.warned[name] {
		t.warned[name] = true
		t.log.Warn("spec.externalIPs are not served (see --allow-external-ips)", zap.String("namespace", name.Namespace),
			zap.String("name", name.Name), zap.Strings("externalIPs", ips))
	}
}

func (t *Tracker) forget(name Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.warned, name)
}
