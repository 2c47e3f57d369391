package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

var (
	errFull      = errors.New("range is full")
	errTaken     = errors.New("provided IP is already allocated")
	errPortTaken = errors.New("provided port is already allocated")
)

// Options of an Allocator. Registries are those of the kinds named.
type Options struct {
	// CIDRs are one or two ranges of cluster IPs, of different families; the first is the default.
	CIDRs []netip.Prefix
	Ports PortRange

	Store     *store.Store
	Addresses *registry.Registry // ipaddresses.networking.k8s.io
	Services  *registry.Registry
	// Ranges are the servicecidrs.networking.k8s.io from which Services get addresses when CIDRs have none left; nil: there are none.
	Ranges *registry.Registry
	Log    *zap.Logger
}

// Allocator gives Services their addresses and ports.
type Allocator struct {
	o        Options
	cidrs    []cidr
	families []corev1.IPFamily
	log      *zap.Logger
}

// New checks the ranges and makes an allocator.
func New(o Options) (*Allocator, error) {
	a := &Allocator{o: o, log: o.Log}
	if len(o.CIDRs) < 1 || len(o.CIDRs) > 2 {
		return nil, fmt.Errorf("%d service ranges, but one or two are needed", len(o.CIDRs))
	}
	for _, p := range o.CIDRs {
		c, err := newCIDR(p)
		if err != nil {
			return nil, err
		}
		family := familyOf(p.Addr())
		if slices.Contains(a.families, family) {
			return nil, fmt.Errorf("service ranges %s and %s are of one family", o.CIDRs[0], p)
		}
		a.cidrs, a.families = append(a.cidrs, c), append(a.families, family)
	}
	if a.log == nil {
		a.log = zap.NewNop()
	}
	return a, nil
}

// First is the first usable address of the default range: the one of the Service kubernetes.
func (a *Allocator) First() netip.Addr { return a.cidrs[0].first }

// Hooks are the registry hooks of Services.
func (a *Allocator) Hooks() registry.Hooks {
	return registry.Hooks{Reserve: a.Reserve, Released: a.Released}
}

// Reserve fills in what a Service leaves open and claims it, together with what the Service asks for by name. A dry run
// fills in and checks, but claims nothing. The error is a Status.
func (a *Allocator) Reserve(ctx context.Context, obj, old resource.Object, dryRun bool) (registry.Reservation, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return registry.Reservation{}, apierrors.NewInternalError(fmt.Errorf("cannot allocate for a %T", obj))
	}
	was, _ := old.(*corev1.Service)
	if err := families(svc, was, a.families); err != nil {
		return registry.Reservation{}, err
	}
	had, claimed := holds(was), claims{}
	err := a.claimAddresses(ctx, svc, had, &claimed, dryRun)
	if err == nil {
		err = a.claimPorts(ctx, svc, had, &claimed, dryRun)
	}
	undo := func() { a.release(ctx, claimed) }
	if dryRun {
		undo = nil
	}
	if err != nil {
		if undo != nil {
			undo()
		}
		return registry.Reservation{}, err
	}
	given := had.without(holds(svc))
	return registry.Reservation{Commit: func() { a.release(ctx, given) }, Undo: undo}, nil
}

// Released gives back what a deleted Service had.
func (a *Allocator) Released(ctx context.Context, obj resource.Object) {
	if svc, ok := obj.(*corev1.Service); ok {
		a.release(ctx, holds(svc))
	}
}

// claims are addresses and node ports.
type claims struct {
	ips   []netip.Addr
	ports []int
}

// holds are the addresses and ports that a stored Service has; nil has none.
func holds(s *corev1.Service) claims {
	var c claims
	if s == nil {
		return c
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		for _, ip := range s.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil {
				c.ips = append(c.ips, addr)
			}
		}
	}
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 && !slices.Contains(c.ports, int(p.NodePort)) {
				c.ports = append(c.ports, int(p.NodePort))
			}
		}
	}
	if needsHealthPort(s) && s.Spec.HealthCheckNodePort != 0 {
		c.ports = append(c.ports, int(s.Spec.HealthCheckNodePort))
	}
	return c
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// without are the claims that other has not.
func (c claims) without(other claims) claims {
	return claims{
		ips:   slices.DeleteFunc(slices.Clone(c.ips), func(ip netip.Addr) bool { return slices.Contains(other.ips, ip) }),
		ports: slices.DeleteFunc(slices.Clone(c.ports), func(p int) bool { return slices.Contains(other.ports, p) }),
	}
}

// releaseTimeout bounds giving back; what is not given back in time is found by Repair.
const releaseTimeout = 10 * time.Second

// release gives claims back, even when the request that causes it has ended.
func (a *Allocator) release(ctx context.Context, c claims) {
	if len(c.ips) == 0 && len(c.ports) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := a.releaseAddresses(ctx, c.ips)
	if len(c.ports) > 0 {
		err = errors.Join(err, a.changePorts(ctx, func(p ports) error {
			for _, port := range c.ports {
				if p.has(port) {
					p.set(port, false)
				}
			}
			return nil
		}))
	}
	if err != nil {
		a.log.Warn("addresses or ports were not given back, the next repair does it", zap.Error(err))
	}
}

// claimAddresses makes clusterIPs complete.
func (a *Allocator) claimAddresses(ctx context.Context, s *corev1.Service, had claims, claimed *claims, dryRun bool) error {
	if s.Spec.Type == corev1.ServiceTypeExternalName || headless(s) {
		return nil
	}
	ips := slices.Clone(s.Spec.ClusterIPs)
	for i, family := range s.Spec.IPFamilies {
		if i == len(ips) {
			ips = append(ips, "")
		}
		ip, err := netip.ParseAddr(ips[i])
		switch {
		case ips[i] == "":
			ip, err = a.nextAddress(ctx, s, family, dryRun)
		case err == nil && slices.Contains(had.ips, ip):
			continue
		case err == nil:
			if err = a.claimAddress(ctx, s, ip, dryRun); err != nil {
				err = invalid(s, field.Invalid(specPath.Child("clusterIPs"), s.Spec.ClusterIPs,
					fmt.Sprintf("failed to allocate IP %v: %v", ip, err)))
			}
		}
		if err != nil {
			return err
		}
		ips[i] = ip.String()
		claimed.ips = append(claimed.ips, ip)
	}
	s.Spec.ClusterIPs = ips
	if len(ips) > 0 {
		s.Spec.ClusterIP = ips[0]
	}
	return nil
}
