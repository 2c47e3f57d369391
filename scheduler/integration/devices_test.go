package integration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

const driver = "gpu.example.com"

// offer makes a class and a slice with one device on a node, as a driver does.
func offer(t *testing.T, api *client.API, node string) {
	t.Helper()
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{
		Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "` + driver + `"`}}},
	}}
	if _, err := client.DeviceClasses.Create(t.Context(), api, class); err != nil {
		t.Fatal(err)
	}
	memory := int64(40)
	slice := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: resourcev1.ResourceSliceSpec{
		Driver: driver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1},
		Devices: []resourcev1.Device{{Name: "card0", Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"memory": {IntValue: &memory}}}},
	}}
	if _, err := client.ResourceSlices.Create(t.Context(), api, slice); err != nil {
		t.Fatal(err)
	}
}

func makeClaim(t *testing.T, api *client.API, name string) {
	t.Helper()
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "card", Exactly: &resourcev1.ExactDeviceRequest{
		DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1,
		Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.attributes["` + driver + `"].memory >= 40`}}},
	}}}
	if _, err := client.ResourceClaims.Create(t.Context(), api, c); err != nil {
		t.Fatal(err)
	}
}

func makeClaimingPod(t *testing.T, api *client.API, name, claim string) {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "card", ResourceClaimName: &claim}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "card"}}}}}
	if _, err := client.Pods.Create(t.Context(), api, p); err != nil {
		t.Fatal(err)
	}
}

// TestAllocatesDevices gives a node's only device to one of two pods, and to the other when it is given back.
func TestAllocatesDevices(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "plain", "4")
	makeNode(t, api, "gpu", "4")
	offer(t, api, "gpu")
	startScheduler(t, env)
	makeClaimingPod(t, api, "first", "one") // before its claim is there
	makeClaim(t, api, "one")
	if p := await(t, api, "first", "bound", bound); p.Spec.NodeName != "gpu" {
		t.Errorf("bound to %s", p.Spec.NodeName)
	}
	claim, err := client.ResourceClaims.Get(t.Context(), api, "default", "one")
	if err != nil {
		t.Fatal(err)
	}
	if a := claim.Status.Allocation; a == nil || len(a.Devices.Results) != 1 || a.Devices.Results[0].Device != "card0" || a.AllocationTimestamp == nil {
		t.Errorf("allocation %v", a)
	}
	if users := claim.Status.ReservedFor; len(users) != 1 || users[0].Name != "first" {
		t.Errorf("reserved for %v", users)
	}
	if len(claim.Finalizers) != 1 || claim.Finalizers[0] != resourcev1.Finalizer {
		t.Errorf("finalizers %v", claim.Finalizers)
	}
	makeClaim(t, api, "two")
	makeClaimingPod(t, api, "second", "two")
	p := await(t, api, "second", "refused", func(p *corev1.Pod) bool { return condition(p) != "" })
	if got, want := condition(p), "0/2 nodes are available: 2 cannot allocate all claims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	claim.Status.Allocation, claim.Status.ReservedFor = nil, nil // as the controller does when no pod uses a claim any more
	if _, err := client.ResourceClaims.Update(t.Context(), api, claim, "status"); err != nil {
		t.Fatal(err)
	}
	await(t, api, "second", "bound", bound)
}
