package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/registry"
)

// managedBy marks the IPAddress objects that an apiserver made; upstream's value, so that either may clean up.
const managedBy = "ipallocator.k8s.io"

// claimAddress takes an address that was asked for.
func (a *Allocator) claimAddress(ctx context.Context, s *corev1.Service, ip netip.Addr, dryRun bool) error {
	i := slices.Index(a.families, familyOf(ip))
	if i < 0 || !slices.ContainsFunc(a.ranges(ctx, i), func(c cidr) bool { return c.usable(ip) }) {
		valid := a.cidrs[max(i, 0)].prefix
		return fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, valid)
	}
	if dryRun {
		return nil
	}
	return a.createAddress(ctx, s, ip)
}

// nextAddress takes any free address of a family. A dry run shows the range's own address, which nobody gets.
func (a *Allocator) nextAddress(ctx context.Context, s *corev1.Service, family corev1.IPFamily, dryRun bool) (netip.Addr, error) {
	i := slices.Index(a.families, family)
	if dryRun {
		return a.cidrs[i].prefix.Addr(), nil
	}
	for _, c := range a.ranges(ctx, i) {
		for ip := range c.free {
			if _, err := a.o.Addresses.Get(ctx, "", ip.String(), "0"); err == nil {
				continue
			}
			err := a.createAddress(ctx, s, ip)
			switch {
			case err == nil:
				return ip, nil
			case !errors.Is(err, errTaken): // taken since: try the next
				return netip.Addr{}, err
			}
		}
	}
	return netip.Addr{}, apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", s.Name, errFull))
}

// ranges are those of the i-th family: the configured one, then those of ServiceCIDRs that a controller has found ready and that are
// not on their way out. What cannot be read adds nothing: a Service that needs it is refused and tried again.
func (a *Allocator) ranges(ctx context.Context, i int) []cidr {
	all := []cidr{a.cidrs[i]}
	if a.o.Ranges == nil {
		return all
	}
	list, err := a.o.Ranges.List(ctx, registry.Query{ResourceVersion: "0"})
	if err != nil {
		a.log.Warn("service ranges beside the configured ones cannot be read", zap.Error(err))
		return all
	}
	for _, it := range list.Items {
		r, ok := it.Object.(*networkingv1.ServiceCIDR)
		if !ok || r.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(r.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, text := range r.Spec.CIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil || familyOf(p.Addr()) != a.families[i] || p.Masked() == a.cidrs[i].prefix {
				continue
			}
			if c, err := newCIDR(p); err == nil {
				all = append(all, c)
			}
		}
	}
	return all
}

// createAddress makes the object that stands for an address; errTaken when there is one.
func (a *Allocator) createAddress(ctx context.Context, s *corev1.Service, ip netip.Addr) error {
	obj := &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: ip.String(),
			Labels: map[string]string{
				networkingv1.LabelIPAddressFamily: string(familyOf(ip)),
				networkingv1.LabelManagedBy:       managedBy,
			},
		},
		Spec: networkingv1.IPAddressSpec{
			ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name},
		},
	}
	_, _, err := a.o.Addresses.Create(ctx, obj, nil)
	if apierrors.IsAlreadyExists(err) {
		return errTaken
	}
	return err
}

func (a *Allocator) releaseAddresses(ctx context.Context, ips []netip.Addr) error {
	var errs []error
	for _, ip := range ips {
		if _, _, err := a.o.Addresses.Delete(ctx, "", ip.String(), nil); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("release %s: %w", ip, err))
		}
	}
	return errors.Join(errs...)
}
