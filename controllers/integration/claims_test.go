package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

// eventFor waits for an Event about an object.
func (c *cluster) eventFor(namespace, name, reason, part string) {
	c.t.Helper()
	c.eventually("an Event says "+reason, func() string {
		list, err := client.Events.List(c.t.Context(), c.api, namespace, metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Reason == reason && e.InvolvedObject.Name == name && strings.Contains(e.Message, part) {
				return ""
			}
		}
		return "no such event"
	})
}

// testResourceClaims: a pod that names a template waits for it, gets a claim, and the claim goes with its devices when the pod has ended.
func testResourceClaims(t *testing.T, c *cluster) {
	ns := c.namespace("devices")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "train"}, Spec: template("v1").Spec}
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: new("gpus")}}
	pod.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
	made, err := client.Pods.Create(t.Context(), c.api, pod)
	if err != nil {
		t.Fatal(err)
	}
	c.eventFor(ns, "train", "FailedResourceClaimCreation", `"gpus" not found`)
	spec := resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
		Name: "one", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1},
	}}}}
	if _, err := client.ResourceClaimTemplates.Create(t.Context(), c.api, &resourcev1.ResourceClaimTemplate{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "gpus"},
		Spec:       resourcev1.ResourceClaimTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"by": "template"}}, Spec: spec},
	}); err != nil {
		t.Fatal(err)
	}
	name := ""
	c.eventually("the pod's status names its claim", func() string {
		got, err := client.Pods.Get(t.Context(), c.api, ns, "train")
		if err != nil || len(got.Status.ResourceClaimStatuses) != 1 || got.Status.ResourceClaimStatuses[0].ResourceClaimName == nil {
			return fmt.Sprintf("%v, %+v", err, got.Status)
		}
		name = *got.Status.ResourceClaimStatuses[0].ResourceClaimName
		return ""
	})
	claim, err := client.ResourceClaims.Get(t.Context(), c.api, ns, name)
	if err != nil || !metav1.IsControlledBy(claim, made) || claim.Labels["by"] != "template" || claim.Annotations["resource.kubernetes.io/pod-claim-name"] != "gpu" {
		t.Fatalf("%v, %+v", err, claim)
	}
	// The scheduler's part.
	claim.Finalizers = []string{resourcev1.Finalizer}
	if claim, err = client.ResourceClaims.Update(t.Context(), c.api, claim); err != nil {
		t.Fatal(err)
	}
	claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "one", Driver: "gpu.example.com", Pool: "n", Device: "gpu-0"},
	}}}
	claim.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "train", UID: made.UID}}
	if _, err = client.ResourceClaims.Update(t.Context(), c.api, claim, "status"); err != nil {
		t.Fatal(err)
	}
	c.steadily("the claim keeps its device", func() string {
		got, err := client.ResourceClaims.Get(t.Context(), c.api, ns, name)
		if err != nil || got.Status.Allocation == nil || len(got.Status.ReservedFor) != 1 {
			return fmt.Sprintf("%v, %+v", err, got)
		}
		return ""
	})
	if _, err := client.Pods.Patch(t.Context(), c.api, ns, "train", types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), "status"); err != nil {
		t.Fatal(err)
	}
	c.eventually("the claim goes when the pod has ended", func() string { return gone(client.ResourceClaims.Get(t.Context(), c.api, ns, name)) })
}

// testAttach plays an attacher and a kubelet: a volume is attached where its pod is, not to a second node at the same time, kept while
// the node says that it uses it, and given up by force from a node out of service.
func testAttach(t *testing.T, c *cluster) {
	ns := c.namespace("attach")
	first, second := c.register("first-"+ns), c.register("second-"+ns)
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: ns, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: sized("1Gi"), PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: ns}},
		},
	}
	if _, err := client.PersistentVolumes.Create(t.Context(), c.api, volume); err != nil {
		t.Fatal(err)
	}
	c.claim(ns, "data", ns)
	c.claimIs(ns, "data", corev1.ClaimBound)
	run := func(name, node string) {
		t.Helper()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: template("v1").Spec}
		pod.Spec.NodeName = node
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		if _, err := client.Pods.Create(t.Context(), c.api, pod); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := client.Pods.Delete(t.Context(), c.api, ns, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	attachments := func() (out []storagev1.VolumeAttachment) {
		t.Helper()
		list, err := client.VolumeAttachments.List(t.Context(), c.api, "", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(list.Items, func(a storagev1.VolumeAttachment) bool { return *a.Spec.Source.PersistentVolumeName != ns })
	}
	only := func(node string) func() string {
		return func() string {
			if all := attachments(); len(all) != 1 || all[0].Spec.NodeName != node || all[0].Spec.Attacher != "disk.example.com" {
				return fmt.Sprintf("%+v", all)
			}
			return ""
		}
	}
	run("one", first.Name)
	c.eventually("it is wanted on the first node", only(first.Name))
	if _, err := client.VolumeAttachments.Patch(t.Context(), c.api, "", attachments()[0].Name, types.MergePatchType, []byte(`{"status":{"attached":true}}`), "status"); err != nil {
		t.Fatal(err)
	}
	unique := "kubernetes.io/csi/disk.example.com^" + ns
	c.eventually("the node's status says that it is attached", func() string {
		n, err := client.Nodes.Get(t.Context(), c.api, "", first.Name)
		if err != nil || len(n.Status.VolumesAttached) != 1 || string(n.Status.VolumesAttached[0].Name) != unique {
			return fmt.Sprintf("%v, %+v", err, n.Status.VolumesAttached)
		}
		return ""
	})
	c.eventFor(ns, "one", "SuccessfulAttachVolume", ns)
	use := func(names ...string) {
		t.Helper()
		patch, _ := json.Marshal(map[string]any{"status": map[string]any{"volumesInUse": names}})
		if _, err := client.Nodes.Patch(t.Context(), c.api, "", first.Name, types.MergePatchType, patch, "status"); err != nil {
			t.Fatal(err)
		}
	}
	use(unique)
	run("two", second.Name)
	c.eventFor(ns, "two", "FailedAttachVolume", "Multi-Attach error for volume \""+ns+"\" Volume is already used by pod(s) one")
	remove("one")
	c.steadily("the first node keeps what it uses", only(first.Name))
	taint := []byte(`{"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute","value":"nodeshutdown"}]}}`)
	if _, err := client.Nodes.Patch(t.Context(), c.api, "", first.Name, types.MergePatchType, taint); err != nil {
		t.Fatal(err)
	}
	c.eventually("out of service, it gives it up, and the second node gets it", only(second.Name))
	c.eventually("the first node's status says so", func() string {
		n, err := client.Nodes.Get(t.Context(), c.api, "", first.Name)
		if err != nil || len(n.Status.VolumesAttached) != 0 {
			return fmt.Sprintf("%v, %+v", err, n.Status.VolumesAttached)
		}
		return ""
	})
	remove("two")
	c.eventually("nobody has it", func() string {
		if all := attachments(); len(all) != 0 {
			return fmt.Sprintf("%+v", all)
		}
		return ""
	})
}

// testAttributesClass: a class that a claim names stays until the claim is gone.
func testAttributesClass(t *testing.T, c *cluster) {
	ns := c.namespace("attributes")
	if _, err := client.VolumeAttributesClasses.Create(t.Context(), c.api, &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: ns}, DriverName: "disk.example.com", Parameters: map[string]string{"iops": "1"}}); err != nil {
		t.Fatal(err)
	}
	c.eventually("it is protected", func() string {
		got, err := client.VolumeAttributesClasses.Get(t.Context(), c.api, "", ns)
		if err != nil || len(got.Finalizers) != 1 {
			return fmt.Sprintf("%v, %+v", err, got)
		}
		return ""
	})
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		VolumeAttributesClassName: &ns, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: sized("1Gi")},
	}}
	if _, err := client.PersistentVolumeClaims.Create(t.Context(), c.api, claim); err != nil {
		t.Fatal(err)
	}
	if err := client.VolumeAttributesClasses.Delete(t.Context(), c.api, "", ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.steadily("it stays while a claim names it", func() string { return found(client.VolumeAttributesClasses.Get(t.Context(), c.api, "", ns)) })
	c.deleteClaim(ns, "data")
	c.eventually("it goes after the claim", func() string { return gone(client.VolumeAttributesClasses.Get(t.Context(), c.api, "", ns)) })
}

// testServiceRange: Services get addresses of a range that is added, and a range that is deleted stays until they are gone.
func testServiceRange(t *testing.T, c *cluster) {
	ns := c.namespace("range")
	if _, err := client.ServiceCIDRs.Create(t.Context(), c.api, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.77.0.0/28"}}}); err != nil {
		t.Fatal(err)
	}
	ready := func(want bool, part string) func() string {
		return func() string {
			got, err := client.ServiceCIDRs.Get(t.Context(), c.api, "", ns)
			if err != nil {
				return err.Error()
			}
			cond := meta.FindStatusCondition(got.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
			if cond == nil || (cond.Status == metav1.ConditionTrue) != want || !strings.Contains(cond.Message, part) {
				return fmt.Sprintf("%+v", got)
			}
			return ""
		}
	}
	c.eventually("it is ready", ready(true, ""))
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: "10.77.0.9", Ports: []corev1.ServicePort{{Port: 80}}}}
	c.eventually("a Service gets an address of it", func() string {
		_, err := client.Services.Create(t.Context(), c.api, svc)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	if err := client.ServiceCIDRs.Delete(t.Context(), c.api, "", ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("it says what holds it", ready(false, "still IPAddresses"))
	if err := client.Services.Delete(t.Context(), c.api, ns, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("it goes", func() string { return gone(client.ServiceCIDRs.Get(t.Context(), c.api, "", ns)) })
}
