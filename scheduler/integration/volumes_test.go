package integration

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

// TestBindsVolumes places a pod where the only volume for its claim can be reached, and gives the claim the volume first.
func TestBindsVolumes(t *testing.T) {
	env, api := start(t)
	for _, name := range []string{"far", "near"} {
		makeNode(t, api, name, "4")
		n, err := client.Nodes.Get(t.Context(), api, "", name)
		if err != nil {
			t.Fatal(err)
		}
		n.Labels = map[string]string{corev1.LabelHostname: name}
		if _, err := client.Nodes.Update(t.Context(), api, n); err != nil {
			t.Fatal(err)
		}
	}
	later, class := storagev1.VolumeBindingWaitForFirstConsumer, "local"
	if _, err := client.StorageClasses.Create(t.Context(), api, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &later,
	}); err != nil {
		t.Fatal(err)
	}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: size},
	}}
	claim, err := client.PersistentVolumeClaims.Create(t.Context(), api, claim)
	if err != nil {
		t.Fatal(err)
	}
	startScheduler(t, env)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	if _, err := client.Pods.Create(t.Context(), api, p); err != nil {
		t.Fatal(err)
	}
	p = await(t, api, "user", "refused", func(p *corev1.Pod) bool { return condition(p) != "" })
	if got, want := condition(p), "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	disk, err := client.PersistentVolumes.Create(t.Context(), api, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: class, Capacity: size, AccessModes: claim.Spec.AccessModes,
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/disk"}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"near"}}},
		}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	disk.Status.Phase = corev1.VolumeAvailable // so says the volume controller, which is not here
	if _, err := client.PersistentVolumes.Update(t.Context(), api, disk, "status"); err != nil {
		t.Fatal(err)
	}
	complete(t, api)
	if p = await(t, api, "user", "bound", bound); p.Spec.NodeName != "near" {
		t.Errorf("bound to %s", p.Spec.NodeName)
	}
}

// complete waits until the volume names the claim, and then does what the volume controller does: the claim names the volume.
func complete(t *testing.T, api *client.API) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		v, err := client.PersistentVolumes.Get(ctx, api, "", "disk")
		if err != nil {
			t.Fatal(err)
		}
		if ref := v.Spec.ClaimRef; ref != nil {
			if ref.Name != "data" || ref.UID == "" {
				t.Errorf("the volume is for %v", ref)
			}
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the volume is not for the claim")
		case <-tick.C:
		}
	}
	claim, err := client.PersistentVolumeClaims.Get(ctx, api, "default", "data")
	if err != nil {
		t.Fatal(err)
	}
	claim.Spec.VolumeName = "disk"
	claim.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	if _, err := client.PersistentVolumeClaims.Update(ctx, api, claim); err != nil {
		t.Fatal(err)
	}
}
