package ranges

import (
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	finalizer = "networking.k8s.io/service-cidr-finalizer"
	// pause is how long a range stays after it was deleted and has no addresses: an API server that has not heard of its deletion
	// may give away one more.
	pause = 10 * time.Second
)

// facts are what there is to know about a range.
type facts struct {
	one    *networkingv1.ServiceCIDR
	others []*networkingv1.ServiceCIDR
	taken  []netip.Addr // all addresses that Services have
	now    time.Time
}

// plan is the finalizers and the Ready condition that a range is to have.
type plan struct {
	finalizers []string
	ready      metav1.Condition
	again      time.Duration
}

func makePlan(f facts) plan {
	p := plan{finalizers: f.one.Finalizers}
	if f.one.DeletionTimestamp == nil {
		if !slices.Contains(p.finalizers, finalizer) {
			p.finalizers = append(slices.Clone(p.finalizers), finalizer)
		}
		p.ready = metav1.Condition{Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready"}
		return p
	}
	p.ready = metav1.Condition{Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating}
	rest := f.one.DeletionTimestamp.Add(pause).Sub(f.now)
	switch {
	case f.held():
		p.ready.Message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
	case rest > 0:
		p.again = rest
		p.ready.Message = "No IPAddress needs the ServiceCIDR any more, it goes soon"
	default:
		p.finalizers = slices.DeleteFunc(slices.Clone(p.finalizers), func(s string) bool { return s == finalizer })
	}
	return p
}

// held says whether an address of the range would be in none without it.
func (f facts) held() bool {
	return slices.ContainsFunc(f.taken, func(a netip.Addr) bool {
		return contains(f.one, a) && !slices.ContainsFunc(f.others, func(o *networkingv1.ServiceCIDR) bool {
			return o.DeletionTimestamp == nil && meta.IsStatusConditionTrue(o.Status.Conditions, networkingv1.ServiceCIDRConditionReady) && contains(o, a)
		})
	})
}

func contains(c *networkingv1.ServiceCIDR, a netip.Addr) bool {
	return slices.ContainsFunc(c.Spec.CIDRs, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Contains(a)
	})
}
