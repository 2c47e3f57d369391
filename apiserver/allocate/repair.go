package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/apiserver/registry"
)

// RepairInterval is the time between repairs, upstream's.
const RepairInterval = 3 * time.Minute

// leakRounds is how many repairs in a row must find a claim without a Service before it is given up: the Service may be
// about to be written, by this or another apiserver.
const leakRounds = 3

// Run repairs at once and then every interval until ctx ends. Failures are logged and tried again.
func (a *Allocator) Run(ctx context.Context) error {
	tick := time.NewTicker(RepairInterval)
	defer tick.Stop()
	r := Repair{a: a, leaks: map[any]int{}}
	for {
		if err := r.Once(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("service addresses and node ports could not be checked, trying again later", zap.Error(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Repair compares claims with Services, and remembers what looked leaked.
type Repair struct {
	a     *Allocator
	leaks map[any]int // address or port -> how many rounds it has looked leaked
}

// Once claims what stored Services use but nobody claimed, and gives up claims that no Service uses.
func (r *Repair) Once(ctx context.Context) error {
	used, err := r.a.used(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.addresses(ctx, used), r.ports(ctx, used))
}

// used is what the stored Services have: addresses and ports, each with its Service.
func (a *Allocator) used(ctx context.Context) (map[any]*corev1.Service, error) {
	list, err := a.o.Services.List(ctx, registry.Query{})
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	used := map[any]*corev1.Service{}
	for _, it := range list.Items {
		svc, ok := it.Object.(*corev1.Service)
		if !ok {
			continue
		}
		has := holds(svc)
		for _, ip := range has.ips {
			a.claimOnce(used, ip, svc)
		}
		for _, port := range has.ports {
			a.claimOnce(used, port, svc)
		}
	}
	return used, nil
}

// claimOnce notes who uses something; a second one is an error that only people can mend.
func (a *Allocator) claimOnce(used map[any]*corev1.Service, what any, svc *corev1.Service) {
	if first := used[what]; first != nil {
		a.log.Error("two services have the same address or node port", zap.Any("claim", what),
			zap.String("namespace", svc.Namespace), zap.String("name", svc.Name),
			zap.String("other", first.Namespace+"/"+first.Name))
		return
	}
	used[what] = svc
}

func (r *Repair) addresses(ctx context.Context, used map[any]*corev1.Service) error {
	ours := labels.SelectorFromSet(labels.Set{networkingv1.LabelManagedBy: managedBy})
	list, err := r.a.o.Addresses.List(ctx, registry.Query{Label: ours})
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	claimed := map[netip.Addr]bool{}
	var errs []error
	for _, it := range list.Items {
		ip, err := netip.ParseAddr(it.Name)
		if err != nil {
			continue
		}
		claimed[ip] = true
		if r.leaked(ip, used[ip] != nil) {
			r.a.log.Info("address has no service, releasing it", zap.String("address", it.Name))
			errs = append(errs, r.a.releaseAddresses(ctx, []netip.Addr{ip}))
		}
	}
	for what, svc := range used {
		ip, ok := what.(netip.Addr)
		if !ok || claimed[ip] {
			continue
		}
		if err := r.a.createAddress(ctx, svc, ip); err != nil && !errors.Is(err, errTaken) {
			errs = append(errs, fmt.Errorf("claim %s for service %s/%s: %w", ip, svc.Namespace, svc.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Repair) ports(ctx context.Context, used map[any]*corev1.Service) error {
	p, _, err := r.a.readPorts(ctx)
	if err != nil {
		return err
	}
	var give []int
	for port := p.First; port <= p.Last; port++ {
		if p.taken(port) && r.leaked(port, used[port] != nil) {
			r.a.log.Info("node port has no service, releasing it", zap.Int("port", port))
			give = append(give, port)
		}
	}
	return r.a.changePorts(ctx, func(p ports) error {
		for _, port := range give {
			p.set(port, false)
		}
		for what := range used {
			if port, ok := what.(int); ok && p.has(port) {
				p.set(port, true)
			}
		}
		return nil
	})
}

// leaked counts how often a claim was seen without a Service, and says when that is enough.
func (r *Repair) leaked(what any, inUse bool) bool {
	if inUse {
		delete(r.leaks, what)
		return false
	}
	r.leaks[what]++
	if r.leaks[what] < leakRounds {
		return false
	}
	delete(r.leaks, what)
	return true
}

// addStored marks the ports of all stored Services in a bitmap that is new.
func (a *Allocator) addStored(ctx context.Context, p ports) error {
	used, err := a.used(ctx)
	if err != nil {
		return err
	}
	for what := range used {
		if port, ok := what.(int); ok && p.has(port) {
			p.set(port, true)
		}
	}
	return nil
}
