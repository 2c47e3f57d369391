package ranges

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	made := func(deleted time.Duration, ready bool, cidrs ...string) *networkingv1.ServiceCIDR {
		c := &networkingv1.ServiceCIDR{Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
		if deleted > 0 {
			c.DeletionTimestamp, c.Finalizers = &metav1.Time{Time: now.Add(-deleted)}, []string{finalizer}
		}
		if ready {
			c.Status.Conditions = []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue}}
		}
		return c
	}
	in, out := []netip.Addr{netip.MustParseAddr("10.1.0.5")}, []netip.Addr{netip.MustParseAddr("10.2.0.5")}
	for _, tt := range []struct {
		name  string
		f     facts
		keeps bool
		ready metav1.ConditionStatus
		again bool
	}{
		{"new", facts{one: made(0, false, "10.1.0.0/24")}, true, metav1.ConditionTrue, false},
		{"deleted and in use", facts{one: made(time.Hour, true, "10.1.0.0/24"), taken: in}, true, metav1.ConditionFalse, false},
		{"deleted just now", facts{one: made(time.Second, true, "10.1.0.0/24"), taken: out}, true, metav1.ConditionFalse, true},
		{"deleted and free", facts{one: made(time.Hour, false, "10.1.0.0/24"), taken: out}, false, metav1.ConditionFalse, false},
		{"another range has its addresses", facts{one: made(time.Hour, false, "10.1.0.0/24"), taken: in,
			others: []*networkingv1.ServiceCIDR{made(0, true, "fd00::/112", "10.1.0.0/16")}}, false, metav1.ConditionFalse, false},
		{"another one that goes, too, does not count", facts{one: made(time.Hour, false, "10.1.0.0/24"), taken: in,
			others: []*networkingv1.ServiceCIDR{made(time.Hour, true, "10.1.0.0/16")}}, true, metav1.ConditionFalse, false},
		{"nor one that is not ready", facts{one: made(time.Hour, false, "10.1.0.0/24"), taken: in,
			others: []*networkingv1.ServiceCIDR{made(0, false, "10.1.0.0/16")}}, true, metav1.ConditionFalse, false},
	} {
		tt.f.now = now
		p := makePlan(tt.f)
		if slices.Contains(p.finalizers, finalizer) != tt.keeps || p.ready.Status != tt.ready || (p.again > 0) != tt.again {
			t.Errorf("%s: %+v", tt.name, p)
		}
	}
}
