package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

// TestMore is what came after the first agent, on one machine for speed.
func TestMore(t *testing.T) {
	a := start(t)
	t.Run("a static pod is shown by its mirror and follows its file", a.sub(testStatic))
	t.Run("a running pod is resized", a.sub(testResize))
	t.Run("claims and images as volumes", a.sub(testVolumes))
	t.Run("a debugging container sees its target's processes", a.sub(testTarget))
	t.Run("a pod that fills its emptyDir beyond the limit is evicted", a.sub(testSizeLimit))
}

const manifest = `apiVersion: v1
kind: Pod
metadata: {name: st}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "sleep 1000"]}]
`

func testStatic(a *agent) {
	ctx := a.t.Context()
	file := filepath.Join(a.path("manifests"), "st.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		a.t.Fatal(err)
	}
	name := "st-" + nodeName
	first := a.until(name, "ready", ready)
	if first.Annotations["kubernetes.io/config.mirror"] == "" || len(first.OwnerReferences) != 1 || first.OwnerReferences[0].Kind != "Node" {
		a.t.Errorf("the mirror's metadata: %+v", first.ObjectMeta)
	}
	if err := client.Pods.Delete(ctx, a.api, "default", name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		a.t.Fatal(err)
	}
	second := a.until(name, "ready again", func(p *corev1.Pod) bool { return p.UID != first.UID && ready(p) })
	if x, y := first.Status.ContainerStatuses[0].ContainerID, second.Status.ContainerStatuses[0].ContainerID; x != y {
		a.t.Errorf("deleting the mirror restarted the container: %s, then %s", x, y)
	}
	if err := os.Remove(file); err != nil {
		a.t.Fatal(err)
	}
	a.eventually("the mirror of a removed file is gone", func(ctx context.Context) error {
		_, err := client.Pods.Get(ctx, a.api, "default", name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}

func testVolumes(a *agent) {
	ctx := a.t.Context()
	data := a.path("data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		a.t.Fatal(err)
	}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim, err := client.PersistentVolumeClaims.Create(ctx, a.api, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: modes, VolumeName: "pv", StorageClassName: new(""), Resources: corev1.VolumeResourceRequirements{Requests: size}},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	_, err = client.PersistentVolumes.Create(ctx, a.api, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: "data", UID: claim.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: data}},
		},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	pod := a.create("vol", func(p *corev1.Pod) {
		shell("cat /img/etc/passwd >/data/copy; ls /img/bin | wc -l; touch /img/x || echo read-only")(p)
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Volumes = []corev1.Volume{
			{Name: "img", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "busybox", PullPolicy: corev1.PullIfNotPresent}}},
			{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "img", MountPath: "/img"}, {Name: "data", MountPath: "/data"}}
	})
	a.eventually("an unbound claim is waited for", func(ctx context.Context) error {
		list, err := client.Events.List(ctx, a.api, "default", metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "FailedMount" && strings.Contains(e.Message, "is not bound") {
				return nil
			}
		}
		return fmt.Errorf("no event says so")
	})
	if _, err := client.PersistentVolumeClaims.Patch(ctx, a.api, "default", "data", types.MergePatchType, []byte(`{"status":{"phase":"Bound"}}`), "status"); err != nil {
		a.t.Fatal(err)
	}
	a.until("vol", "succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if _, err := os.Stat(filepath.Join(data, "copy")); err != nil {
		a.t.Errorf("nothing was written through the claim: %v", err)
	}
	if out := a.output(pod, "c", 0); !strings.Contains(out, "read-only") {
		a.t.Errorf("the image volume can be written: %q", out)
	}
	if err := client.Pods.Delete(ctx, a.api, "default", "vol", metav1.DeleteOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

func testTarget(a *agent) {
	ctx := a.t.Context()
	a.create("app", nil)
	pod := a.until("app", "ready", ready)
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePolicy: corev1.TerminationMessageReadFile, Command: []string{"sh", "-c", "cat /proc/1/cmdline"}},
		TargetContainerName: "c",
	}}
	if _, err := client.Pods.Update(ctx, a.api, pod, "ephemeralcontainers"); err != nil {
		a.t.Fatal(err)
	}
	pod = a.until("app", "debugged", func(p *corev1.Pod) bool {
		return len(p.Status.EphemeralContainerStatuses) == 1 && p.Status.EphemeralContainerStatuses[0].State.Terminated != nil
	})
	if out := a.output(pod, "debug", 0); !strings.Contains(out, "trap") {
		a.t.Errorf("process 1 is not the target's: %q, %+v", out, pod.Status.EphemeralContainerStatuses)
	}
	if pod.Status.ContainerStatuses[0].State.Running == nil {
		a.t.Error("the end of the debugging container ended its target")
	}
}

func testSizeLimit(a *agent) {
	a.create("greedy", func(p *corev1.Pod) {
		shell("dd if=/dev/zero of=/scratch/x bs=1024 count=4096; sleep 1000")(p)
		p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(1<<20, resource.BinarySI)}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	})
	pod := a.until("greedy", "evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if pod.Status.Reason != "Evicted" || !strings.Contains(pod.Status.Message, `EmptyDir volume "scratch" exceeds the limit`) {
		a.t.Errorf("%s: %s", pod.Status.Reason, pod.Status.Message)
	}
}

func testResize(a *agent) {
	ctx := a.t.Context()
	needs := func(cpu string) corev1.ResourceRequirements {
		l := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("32Mi")}
		return corev1.ResourceRequirements{Requests: l, Limits: l.DeepCopy()}
	}
	a.create("resized", func(p *corev1.Pod) { p.Spec.Containers[0].Resources = needs("100m") })
	before := a.until("resized", "ready", ready)
	patch := []byte(`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"200m"},"limits":{"cpu":"200m"}}}]}}`)
	if _, err := client.Pods.Patch(ctx, a.api, "default", "resized", types.StrategicMergePatchType, patch, "resize"); err != nil {
		a.t.Fatal(err)
	}
	resizing := func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizeInProgress || c.Type == corev1.PodResizePending
	}
	after := a.until("resized", "resized, and not resizing any more", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses[0]
		return p.Status.ObservedGeneration == p.Generation && s.Resources != nil && s.Resources.Limits.Cpu().MilliValue() == 200 &&
			!slices.ContainsFunc(p.Status.Conditions, resizing)
	})
	if x, y := before.Status.ContainerStatuses[0].ContainerID, after.Status.ContainerStatuses[0].ContainerID; x != y {
		a.t.Error("the container was restarted")
	}
	id := strings.TrimPrefix(after.Status.ContainerStatuses[0].ContainerID, "hardway://")
	var quota string
	for _, dir := range cgroups() {
		for _, file := range []string{"cpu.cfs_quota_us", "cpu.max"} {
			if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil && filepath.Base(dir) == id {
				quota = strings.Fields(string(data))[0]
			}
		}
	}
	if quota != "20000" {
		a.t.Errorf("the kernel's quota is %q, want 20000", quota)
	}
	// What no node of this size could give is refused by the API server already.
	_, err := client.Pods.Patch(ctx, a.api, "default", "resized", types.StrategicMergePatchType, bytes.ReplaceAll(patch, []byte("200m"), []byte("900")), "resize")
	if !apierrors.IsForbidden(err) {
		a.t.Errorf("a resize beyond the node: %v", err)
	}
}
