package integration

import (
	"fmt"
	"path"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/storage/binder"
	"hardway/shared/client"
)

func sized(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func (c *cluster) claim(namespace, name, class string) *corev1.PersistentVolumeClaim {
	c.t.Helper()
	made, err := client.PersistentVolumeClaims.Create(c.t.Context(), c.api, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: sized("1Gi")},
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

func (c *cluster) volume(name, class, size string, policy corev1.PersistentVolumeReclaimPolicy) {
	c.t.Helper()
	_, err := client.PersistentVolumes.Create(c.t.Context(), c.api, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: sized(size), PersistentVolumeReclaimPolicy: policy,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp/" + name}},
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// claimIs and volumeIs wait for a phase.
func (c *cluster) claimIs(namespace, name string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	c.t.Helper()
	var got *corev1.PersistentVolumeClaim
	c.eventually(fmt.Sprintf("claim %s is %s", name, phase), func() string {
		var err error
		if got, err = client.PersistentVolumeClaims.Get(c.t.Context(), c.api, namespace, name); err != nil || got.Status.Phase != phase {
			return fmt.Sprintf("%v, %+v", err, got)
		}
		return ""
	})
	return got
}

func (c *cluster) volumeIs(name string, phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
	c.t.Helper()
	var got *corev1.PersistentVolume
	c.eventually(fmt.Sprintf("volume %s is %s", name, phase), func() string {
		var err error
		if got, err = client.PersistentVolumes.Get(c.t.Context(), c.api, "", name); err != nil || got.Status.Phase != phase {
			return fmt.Sprintf("%v, %+v", err, got)
		}
		return ""
	})
	return got
}

func (c *cluster) deleteClaim(namespace, name string) {
	c.t.Helper()
	if err := client.PersistentVolumeClaims.Delete(c.t.Context(), c.api, namespace, name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// testStaticVolumes: the smallest volume that fits is bound, kept while a pod uses the claim, released and retained.
func testStaticVolumes(t *testing.T, c *cluster) {
	ns := c.namespace("static")
	c.hollow(ns)
	big, small := "big-"+ns, "small-"+ns
	c.volume(big, ns, "5Gi", corev1.PersistentVolumeReclaimRetain)
	c.volume(small, ns, "2Gi", corev1.PersistentVolumeReclaimRetain)
	c.volumeIs(big, corev1.VolumeAvailable)
	c.volumeIs(small, corev1.VolumeAvailable)
	c.claim(ns, "data", ns)
	claim := c.claimIs(ns, "data", corev1.ClaimBound)
	if size := claim.Status.Capacity[corev1.ResourceStorage]; claim.Spec.VolumeName != small || size.String() != "2Gi" {
		t.Fatalf("%+v", claim)
	}
	c.volumeIs(small, corev1.VolumeBound)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: template("v1").Spec}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	if _, err := client.Pods.Create(t.Context(), c.api, pod); err != nil {
		t.Fatal(err)
	}
	c.eventually("pod is bound", func() string {
		if pods := c.pods(ns); len(pods) != 1 || pods[0].Spec.NodeName == "" {
			return "not yet"
		}
		return ""
	})
	c.deleteClaim(ns, "data")
	c.steadily("the claim stays while the pod uses it", func() string { return found(client.PersistentVolumeClaims.Get(t.Context(), c.api, ns, "data")) })
	if err := client.Pods.Delete(t.Context(), c.api, ns, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the claim goes after it", func() string { return gone(client.PersistentVolumeClaims.Get(t.Context(), c.api, ns, "data")) })
	c.volumeIs(small, corev1.VolumeReleased)
}

// testLocalVolumes: a claim waits for a node, gets a folder of it, and grows; when it is deleted, a pod removes the
// folder.
func testLocalVolumes(t *testing.T, c *cluster) {
	ns := c.namespace("local")
	h := c.hollow(ns)
	if _, err := client.Nodes.Patch(t.Context(), c.api, "", h.name, types.MergePatchType, []byte(`{"metadata":{"labels":{"kubernetes.io/hostname":"`+h.name+`"}}}`)); err != nil {
		t.Fatal(err)
	}
	_, err := client.StorageClasses.Create(t.Context(), c.api, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: ns}, Provisioner: binder.Provisioner, VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer), AllowVolumeExpansion: new(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	claim := c.claim(ns, "data", ns)
	c.eventually("an Event says what the claim waits for", func() string {
		list, err := client.Events.List(t.Context(), c.api, ns, metav1.ListOptions{})
		if err != nil || !slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return e.Reason == "WaitForFirstConsumer" }) {
			return fmt.Sprintf("%v, no such event", err)
		}
		return ""
	})
	choose := []byte(`{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"` + h.name + `"}}}`) // the scheduler's part
	if _, err := client.PersistentVolumeClaims.Patch(t.Context(), c.api, ns, "data", types.MergePatchType, choose); err != nil {
		t.Fatal(err)
	}
	claim = c.claimIs(ns, "data", corev1.ClaimBound)
	v := c.volumeIs(claim.Spec.VolumeName, corev1.VolumeBound)
	if v.Spec.HostPath == nil || path.Base(v.Spec.HostPath.Path) != v.Name || v.Spec.NodeAffinity == nil {
		t.Fatalf("%+v", v.Spec)
	}
	if _, err := client.PersistentVolumeClaims.Patch(t.Context(), c.api, ns, "data", types.MergePatchType, []byte(`{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}`)); err != nil {
		t.Fatal(err)
	}
	c.eventually("it grows", func() string {
		got, err := client.PersistentVolumeClaims.Get(t.Context(), c.api, ns, "data")
		if size := got.Status.Capacity[corev1.ResourceStorage]; err != nil || size.String() != "3Gi" {
			return fmt.Sprintf("%v, %s", err, size.String())
		}
		return ""
	})
	c.deleteClaim(ns, "data")
	c.volumeIs(v.Name, corev1.VolumeReleased)
	scrub := "scrub-" + string(v.UID)
	c.eventually("a pod removes the folder", func() string { return found(client.Pods.Get(t.Context(), c.api, "hardway-volumes", scrub)) })
	if _, err := client.Pods.Patch(t.Context(), c.api, "hardway-volumes", scrub, types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), "status"); err != nil {
		t.Fatal(err)
	}
	c.eventually("the volume goes", func() string { return gone(client.PersistentVolumes.Get(t.Context(), c.api, "", v.Name)) })
	c.eventually("the pod goes", func() string { return gone(client.Pods.Get(t.Context(), c.api, "hardway-volumes", scrub)) })
}

// testEphemeralClaims: a pod with a template of a volume gets a claim of its own.
func testEphemeralClaims(t *testing.T, c *cluster) {
	ns := c.namespace("ephemeral")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: template("v1").Spec}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: sized("1Gi")}},
	}}}}}
	made, err := client.Pods.Create(t.Context(), c.api, pod)
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("a claim of the pod", func() string {
		claim, err := client.PersistentVolumeClaims.Get(t.Context(), c.api, ns, "web-v")
		if err != nil || !metav1.IsControlledBy(claim, made) {
			return fmt.Sprintf("%v, %+v", err, claim)
		}
		return ""
	})
}
