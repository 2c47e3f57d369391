package resourceclaim

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNameFollowsFromThePod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("p", 253), UID: "a"}}
	one := nameFor(pod, "gpu")
	if errs := validation.IsDNS1123Subdomain(one); len(errs) > 0 {
		t.Errorf("%q: %v", one, errs)
	}
	if one != nameFor(pod, "gpu") || one == nameFor(pod, "nic") {
		t.Error("the name does not follow from pod and entry")
	}
	pod.UID = "b"
	if one == nameFor(pod, "gpu") {
		t.Error("another pod gets the same claim")
	}
}

func TestPlanClaim(t *testing.T) {
	user := func(uids ...string) (out []resourcev1.ResourceClaimConsumerReference) {
		for _, uid := range uids {
			out = append(out, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: uid, UID: types.UID(uid)})
		}
		return out
	}
	running := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	ended := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
	going := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}, Spec: corev1.PodSpec{NodeName: "n"}}
	for _, tt := range []struct {
		name                 string
		given, final, ending bool
		was, now             []resourcev1.ResourceClaimConsumerReference
		made                 *corev1.Pod
		status, free, remove bool
	}{
		{name: "used", given: true, final: true, was: user("a"), now: user("a"), made: running},
		{name: "one of two leaves", given: true, final: true, was: user("a", "b"), now: user("a"), status: true},
		{name: "the last leaves", given: true, final: true, was: user("a"), status: true, free: true},
		{name: "allocated, about to be reserved", given: true, final: true},
		{name: "about to be allocated", final: true, made: running},
		{name: "deleted and used", given: true, final: true, ending: true, was: user("a"), now: user("a")},
		{name: "deleted, nobody uses it", given: true, final: true, ending: true, status: true, free: true},
		{name: "deleted, nothing given", final: true, ending: true, free: true},
		{name: "new", made: running},
		{name: "its pod has ended", given: true, final: true, was: user("a"), made: ended, status: true, free: true, remove: true},
		{name: "its pod has ended, another uses it", given: true, final: true, was: user("a", "b"), now: user("b"), made: ended, status: true},
		{name: "its pod is going", given: true, final: true, was: user("a"), now: user("a"), made: going},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &resourcev1.ResourceClaim{Status: resourcev1.ResourceClaimStatus{ReservedFor: tt.was}}
			if tt.given {
				c.Status.Allocation = &resourcev1.AllocationResult{}
			}
			if tt.final {
				c.Finalizers = []string{resourcev1.Finalizer}
			}
			if tt.ending {
				c.DeletionTimestamp = &metav1.Time{}
			}
			p := planClaim(c, tt.now, tt.made)
			if (p.status != nil) != tt.status || p.free != tt.free || p.remove != tt.remove {
				t.Errorf("%+v", p)
			}
			if p.status != nil && (p.status.Allocation == nil) != (len(tt.now) == 0) {
				t.Errorf("allocation %v with %d users", p.status.Allocation, len(tt.now))
			}
		})
	}
}
