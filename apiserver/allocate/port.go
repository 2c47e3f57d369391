package allocate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// rangeAllocation is how the bitmap is stored; the kind is not served.
var rangeAllocation = resource.Define(scheme.Scheme, resource.Spec[corev1.RangeAllocation]{
	Names:      resource.Names{Version: "v1", Kind: "RangeAllocation", Plural: "rangeallocations"},
	StorageKey: "ranges",
})

// claimPorts gives every port that needs one a node port, and the Service a port for health checks.
func (a *Allocator) claimPorts(ctx context.Context, s *corev1.Service, had claims, claimed *claims, dryRun bool) error {
	wish := portWish{s: s, had: had, ports: s.Spec.Ports, health: s.Spec.HealthCheckNodePort}
	if !wish.any() {
		return nil
	}
	if dryRun {
		p, _, err := a.readPorts(ctx)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		_, err = wish.claim(p)
		return err
	}
	var got []int
	err := a.changePorts(ctx, func(p ports) (err error) {
		got, err = wish.claim(p)
		return err
	})
	if err == nil {
		claimed.ports = got
	}
	return err
}

// portWish is what a Service wants of node ports, beside those it had. ports and health are as the client sent them.
type portWish struct {
	s      *corev1.Service
	had    claims
	ports  []corev1.ServicePort
	health int32
}

// wants says whether the Service's type has node ports, and whether they are chosen when not named.
func (w portWish) wants() (has, choose bool) {
	switch w.s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true, true
	case corev1.ServiceTypeLoadBalancer:
		return true, w.s.Spec.AllocateLoadBalancerNodePorts == nil || *w.s.Spec.AllocateLoadBalancerNodePorts
	}
	return false, false
}

// any says whether something must be claimed.
func (w portWish) any() bool {
	kept := map[int]bool{}
	for _, p := range w.had.ports {
		kept[p] = true
	}
	if needsHealthPort(w.s) && !kept[int(w.health)] {
		return true
	}
	has, choose := w.wants()
	if !has {
		return false
	}
	for _, p := range w.ports {
		if p.NodePort == 0 && choose || p.NodePort != 0 && !kept[int(p.NodePort)] {
			return true
		}
	}
	return false
}

// claim takes the ports from a bitmap and writes them into the Service; it may be called again on another bitmap. Two ports of one number, such as 53/TCP and 53/UDP, share a node port.
func (w portWish) claim(p ports) (got []int, err error) {
	mine := map[int]bool{}
	for _, port := range w.had.ports {
		mine[port] = true
	}
	list := slices.Clone(w.ports)
	if has, choose := w.wants(); has {
		if got, err = w.named(p, list, mine); err == nil && choose {
			err = w.chosen(p, list, &got)
		}
		if err != nil {
			return nil, err
		}
	}
	health := w.health
	if needsHealthPort(w.s) && !mine[int(health)] {
		port := int(health)
		if port != 0 {
			err = p.claim(port)
		} else {
			port, err = p.next()
		}
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", health, err))
		}
		health, got = int32(port), append(got, port)
	}
	w.s.Spec.Ports, w.s.Spec.HealthCheckNodePort = list, health
	return got, nil
}

// named claims the ports that the Service names.
func (w portWish) named(p ports, list []corev1.ServicePort, mine map[int]bool) (got []int, err error) {
	for i, sp := range list {
		port := int(sp.NodePort)
		if port == 0 || mine[port] {
			continue
		}
		if err := p.claim(port); err != nil {
			return nil, invalid(w.s, field.Invalid(specPath.Child("ports").Index(i).Child("nodePort"), sp.NodePort, err.Error()))
		}
		mine[port] = true
		got = append(got, port)
	}
	return got, nil
}

// chosen claims any ports for those that the Service leaves open.
func (w portWish) chosen(p ports, list []corev1.ServicePort, got *[]int) error {
	same := map[int32]int32{} // service port -> node port
	for _, sp := range list {
		if sp.NodePort != 0 {
			same[sp.Port] = sp.NodePort
		}
	}
	for i := range list {
		if list[i].NodePort != 0 {
			continue
		}
		if shared := same[list[i].Port]; shared != 0 && !usedTwice(list, list[i].Protocol, shared) {
			list[i].NodePort = shared
			continue
		}
		port, err := p.next()
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		list[i].NodePort, same[list[i].Port] = int32(port), int32(port)
		*got = append(*got, port)
	}
	return nil
}

// usedTwice says whether a protocol has a node port already.
func usedTwice(list []corev1.ServicePort, protocol corev1.Protocol, nodePort int32) bool {
	for _, sp := range list {
		if sp.NodePort == nodePort && sp.Protocol == protocol {
			return true
		}
	}
	return false
}

func (a *Allocator) portsKey() string { return a.o.Store.Prefix("ranges") + "servicenodeports" }

// readPorts reads the bitmap and the revision of its key, 0 when it is absent.
func (a *Allocator) readPorts(ctx context.Context) (ports, int64, error) {
	kv, _, err := a.o.Store.Get(ctx, a.portsKey())
	if errors.Is(err, store.ErrNotFound) {
		return newPorts(a.o.Ports, nil), 0, nil
	}
	if err != nil {
		return ports{}, 0, err
	}
	p, err := a.decodePorts(kv)
	return p, kv.Rev, err
}

func (a *Allocator) decodePorts(kv store.KV) (ports, error) {
	d, err := store.NewCodec(rangeAllocation, nil).Decode(context.Background(), kv.Value, kv.Rev)
	if err != nil {
		return ports{}, err
	}
	stored, ok := d.Object.(*corev1.RangeAllocation)
	if !ok || stored.Range != a.o.Ports.String() {
		return ports{}, fmt.Errorf("node ports were allocated from %s, but the range is now %s: delete the key %s to change it",
			stored.Range, a.o.Ports, kv.Key)
	}
	return newPorts(a.o.Ports, stored.Data), nil
}

// changePorts changes the bitmap by compare-and-swap. A bitmap that is absent begins with the ports of all stored
// Services. An error of f ends it and is returned as it is.
func (a *Allocator) changePorts(ctx context.Context, f func(p ports) error) error {
	p, rev, err := a.readPorts(ctx)
	for {
		if err == nil && rev == 0 {
			err = a.addStored(ctx, p)
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("node ports: %w", err))
		}
		before := p.bits.String()
		if err := f(p); err != nil {
			return err
		}
		if rev != 0 && p.bits.String() == before {
			return nil
		}
		err = a.writePorts(ctx, p, rev)
		var conflict *store.Conflict
		switch {
		case err == nil:
			return nil
		case errors.As(err, &conflict):
			rev = conflict.Current.Rev
			p, err = a.decodePorts(conflict.Current)
		case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrNotFound):
			p, rev, err = a.readPorts(ctx)
		}
	}
}

func (a *Allocator) writePorts(ctx context.Context, p ports, rev int64) error {
	value, err := store.NewCodec(rangeAllocation, nil).Encode(&corev1.RangeAllocation{Range: a.o.Ports.String(), Data: p.bits.Bytes()})
	if err != nil {
		return err
	}
	if rev == 0 {
		_, err = a.o.Store.Create(ctx, a.portsKey(), value, 0)
	} else {
		_, err = a.o.Store.Update(ctx, a.portsKey(), value, rev, 0)
	}
	return err
}
