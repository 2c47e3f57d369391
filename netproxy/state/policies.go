package state

import (
	"context"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/shared/client"
)

// How long to wait before asking again for network policies: when the API cannot be reached, and when it says that it has none for us.
const (
	askSoon  = time.Second
	askLater = 30 * time.Second
)

// Policies follows network policies, and, from the first one on, the pods and namespaces that they are about: a cluster without policies does
// not pay for them. Like [Tracker], it only marks what changed and reads it when it is taken.
type Policies struct {
	api *client.API
	in  *client.Informers
	log *zap.Logger

	wake    chan struct{} // holds one token while there are marks
	settled chan struct{} // closed when what there is may be taken, or it is known that there is nothing to take

	mu         sync.Mutex
	policies   *client.Informer[networkingv1.NetworkPolicy] // these three are set once; guarded by mu
	pods       *client.Informer[corev1.Pod]
	namespaces *client.Informer[corev1.Namespace]
	following  bool         // all three have synced; guarded by mu
	marked     map[any]bool // markedPolicy, markedPod, markedNamespace; guarded by mu

	warned map[Name]string // what was wrong with a policy; of the caller of Take alone
}

type (
	markedPolicy    Name
	markedPod       Name
	markedNamespace string
)

// NewPolicies follows nothing before Run.
func NewPolicies(api *client.API, log *zap.Logger) *Policies {
	return &Policies{api: api, in: client.NewInformers(api, log), log: log, wake: make(chan struct{}, 1), settled: make(chan struct{}),
		marked: map[any]bool{}, warned: map[Name]string{}}
}

// Run follows until ctx ends.
func (p *Policies) Run(ctx context.Context) error {
	settle := sync.OnceFunc(func() { close(p.settled) })
	if !p.served(ctx, settle) {
		return nil
	}
	some := make(chan struct{}, 1)
	p.mu.Lock()
	p.policies = client.NetworkPolicies.Informer(p.in, client.Options{})
	p.mu.Unlock()
	p.policies.OnChange(func(old, now *networkingv1.NetworkPolicy) {
		if old == nil || now == nil || old.Generation != now.Generation {
			p.mark(markedPolicy(nameOf(old, now)))
		}
		select {
		case some <- struct{}{}:
		default:
		}
	})
	var running sync.WaitGroup
	running.Go(func() { _ = p.in.Run(ctx) }) // never an error
	defer running.Wait()
	if !p.in.WaitForSync(ctx) {
		return nil
	}
	for range p.policies.All() {
		return p.follow(ctx, settle)
	}
	settle()
	select {
	case <-ctx.Done():
		return nil
	case <-some:
		return p.follow(ctx, settle)
	}
}

// served waits until the API lets us list policies; false: ctx ended. An API that says no does not keep services waiting.
func (p *Policies) served(ctx context.Context, settle func()) bool {
	said := ""
	for {
		_, err := client.NetworkPolicies.List(ctx, p.api, "", metav1.ListOptions{Limit: 1})
		if err == nil {
			return true
		}
		wait := askSoon
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			wait = askLater
			if said != err.Error() {
				said = err.Error()
				p.log.Warn("network policies are not enforced: the API does not give them out", zap.Error(err))
			}
			settle()
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// follow watches pods and namespaces, too, and lets everything be taken when they have come.
func (p *Policies) follow(ctx context.Context, settle func()) error {
	pods := client.Pods.Informer(p.in, client.Options{Transform: trimPod})
	namespaces := client.Namespaces.Informer(p.in, client.Options{Transform: trimNamespace})
	p.mu.Lock()
	p.pods, p.namespaces = pods, namespaces
	p.mu.Unlock()
	pods.OnChange(func(old, now *corev1.Pod) {
		if old == nil || now == nil || !reflect.DeepEqual(PodOf(old), PodOf(now)) {
			p.mark(markedPod(nameOf(old, now)))
		}
	})
	namespaces.OnChange(func(old, now *corev1.Namespace) {
		if old == nil || now == nil || !reflect.DeepEqual(old.Labels, now.Labels) {
			p.mark(markedNamespace(nameOf(old, now).Name))
		}
	})
	if !p.in.WaitForSync(ctx) {
		return nil
	}
	p.mu.Lock()
	p.following = true
	p.mu.Unlock()
	p.poke()
	settle()
	<-ctx.Done()
	return nil
}

func nameOf[T any](old, now *T) Name {
	if now == nil {
		now = old
	}
	m, _ := any(now).(metav1.Object) // all kinds are
	return Name{m.GetNamespace(), m.GetName()}
}

func trimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	pod.ObjectMeta = metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
		CreationTimestamp: pod.CreationTimestamp}
	containers := func(from []corev1.Container) []corev1.Container {
		var out []corev1.Container
		for _, c := range from {
			if len(c.Ports) > 0 {
				out = append(out, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
			}
		}
		return out
	}
	pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork, Containers: containers(pod.Spec.Containers),
		InitContainers: containers(pod.Spec.InitContainers)}
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs}
	return pod, nil
}

func trimNamespace(obj any) (any, error) {
	if n, ok := obj.(*corev1.Namespace); ok {
		n.ObjectMeta = metav1.ObjectMeta{Name: n.Name, ResourceVersion: n.ResourceVersion, Labels: n.Labels}
	}
	return obj, nil
}

func (p *Policies) mark(what any) {
	p.mu.Lock()
	p.marked[what] = true
	p.mu.Unlock()
	p.poke()
}

func (p *Policies) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Settled is closed when the first [Policies.Take] has all there is to say. A proxy that started before would open what policies close.
func (p *Policies) Settled() <-chan struct{} { return p.settled }

// Ready receives when there may be something for Take.
func (p *Policies) Ready() <-chan struct{} { return p.wake }

// Take returns all that changed since the last call. It may be empty.
func (p *Policies) Take() PolicyChanges {
	p.mu.Lock()
	if !p.following {
		p.mu.Unlock()
		return PolicyChanges{}
	}
	marked := p.marked
	p.marked = map[any]bool{}
	p.mu.Unlock()
	out := PolicyChanges{Policies: map[Name]*Policy{}, Pods: map[Name]*Pod{}, Namespaces: map[string]*labels.Set{}}
	for what := range marked {
		switch name := what.(type) {
		case markedPolicy:
			out.Policies[Name(name)] = p.policy(Name(name))
		case markedPod:
			out.Pods[Name(name)] = nil
			if o, ok := p.pods.Get(name.Namespace, name.Name); ok {
				out.Pods[Name(name)] = PodOf(o)
			}
		case markedNamespace:
			out.Namespaces[string(name)] = nil
			if o, ok := p.namespaces.Get("", string(name)); ok {
				set := labels.Set(o.Labels)
				out.Namespaces[string(name)] = &set
			}
		}
	}
	return out
}

func (p *Policies) policy(name Name) *Policy {
	o, ok := p.policies.Get(name.Namespace, name.Name)
	if !ok {
		delete(p.warned, name)
		return nil
	}
	out, err := PolicyOf(o)
	if err != nil && p.warned[name] != err.Error() {
		p.warned[name] = err.Error()
		p.log.Warn("part of a network policy allows nothing", zap.String("namespace", name.Namespace), zap.String("name", name.Name), zap.Error(err))
	}
	return out
}
