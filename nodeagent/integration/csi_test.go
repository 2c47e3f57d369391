package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/csi/csitest"
	"hardway/shared/client"
)

const csiDriver = "test.csi.hardway"

// TestCSI has pods use the volumes of a CSI driver, and the agent killed while the driver is at work.
func TestCSI(t *testing.T) {
	a := prepare(t)
	dir, err := os.MkdirTemp("/tmp", "csi") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(volume.Unmount(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	root := filepath.Join(dir, "kubelet")
	a.extra = append(a.extra, "--root-dir="+root)
	d := &csitest.Driver{Name: csiDriver, Node: "node-1", Root: root, Base: filepath.Join(dir, "base"), Most: 5,
		Topology: map[string]string{"topology.test/node": nodeName},
		Can:      []spec.NodeServiceCapability_RPC_Type{spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, spec.NodeServiceCapability_RPC_EXPAND_VOLUME}}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	a.launch()
	t.Cleanup(a.stop)
	a.nodeReady()
	a.eventually("the driver is in the CSINode", func(ctx context.Context) error {
		n, err := client.CSINodes.Get(ctx, a.api, "", nodeName)
		if err == nil && (len(n.Spec.Drivers) != 1 || n.Spec.Drivers[0].NodeID != "node-1" || *n.Spec.Drivers[0].Allocatable.Count != 5) {
			err = fmt.Errorf("drivers %+v", n.Spec.Drivers)
		}
		return err
	})
	about := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: csiDriver}, Spec: storagev1.CSIDriverSpec{
		AttachRequired: new(false), PodInfoOnMount: new(true), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{"Persistent", "Ephemeral"},
	}}
	if _, err := client.CSIDrivers.Create(t.Context(), a.api, about); err != nil {
		t.Fatal(err)
	}
	a.boundClaim("data")
	t.Run("claims and inline volumes", a.sub(func(a *agent) { testCSIVolumes(a, d) }))
	t.Run("the agent is killed while the driver works", a.sub(func(a *agent) { testCSIKilled(a, d, root) }))
}

// boundClaim makes a claim with its volume, as a provisioner and the binder would.
func (a *agent) boundClaim(name string) {
	a.t.Helper()
	ctx, size := a.t.Context(), corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim, err := client.PersistentVolumeClaims.Create(ctx, a.api, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes, VolumeName: "pv-" + name, StorageClassName: new(""),
			Resources: corev1.VolumeResourceRequirements{Requests: size}},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	_, err = client.PersistentVolumes.Create(ctx, a.api, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: name, UID: claim.UID},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: csiDriver, VolumeHandle: "vol-" + name}},
	}})
	if err != nil {
		a.t.Fatal(err)
	}
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, AccessModes: modes, Capacity: size}
	if _, err := client.PersistentVolumeClaims.Update(ctx, a.api, claim, "status"); err != nil {
		a.t.Fatal(err)
	}
}

// withClaim mounts a claim at /data.
func withClaim(name, script string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		shell(script)(p)
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}
}

const idle = "trap 'exit 0' TERM; sleep 1000 & wait"

func testCSIVolumes(a *agent, d *csitest.Driver) {
	a.create("writer", withClaim("data", "echo kept > /data/f; "+idle))
	a.create("inline", func(p *corev1.Pod) {
		shell("echo here > /in/f; " + idle)(p)
		p.Spec.Volumes = []corev1.Volume{{Name: "in", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: csiDriver}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "in", MountPath: "/in"}}
	})
	a.until("writer", "ready", ready)
	a.until("inline", "ready", ready)
	a.eventually("the pod has written to the volume", func(context.Context) error {
		data, err := os.ReadFile(d.Folder("vol-data") + "/f")
		if err == nil && string(data) != "kept\n" {
			err = fmt.Errorf("it says %q", data)
		}
		return err
	})
	a.gone("writer")
	a.gone("inline")
	a.create("reader", withClaim("data", "cat /data/f; "+idle))
	p := a.until("reader", "ready", ready)
	a.eventually("the next pod reads it", func(context.Context) error { return has(a.output(p, "c", 0), "kept\n") })
	a.gone("reader")
}

// testCSIKilled kills the agent while a volume is being staged. The pod that is wanted gets it from the next agent; the
// one that is not leaves nothing behind.
func testCSIKilled(a *agent, d *csitest.Driver, root string) {
	for _, name := range []string{"stays", "leaves"} {
		a.boundClaim(name)
		release := d.Hang("vol-" + name)
		a.create("k-"+name, withClaim(name, idle))
		a.eventually("the driver is at work", func(context.Context) error {
			for _, c := range d.Calls() {
				if c.Volume == "vol-"+name {
					return nil
				}
			}
			return errors.New("no call yet")
		})
		a.kill()
		release()
		if name == "leaves" {
			if err := client.Pods.Delete(a.t.Context(), a.api, "default", "k-leaves", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
				a.t.Fatal(err)
			}
		}
		a.launch()
	}
	a.until("k-stays", "ready", ready)
	a.gone("k-stays")
	a.eventually("nothing is left of any volume", func(context.Context) error {
		mounts, err := volume.MountsBelow(root)
		var left []string
		for _, m := range mounts {
			if strings.Contains(m, "csi") {
				left = append(left, m)
			}
		}
		files, err2 := filepath.Glob(filepath.Join(root, "p*", "*", "*", "*csi*", "*"))
		if err = errors.Join(err, err2); err == nil && len(left)+len(files) > 0 {
			err = fmt.Errorf("left: %v %v", left, files)
		}
		return err
	})
}

// gone deletes a pod and waits until it is no more.
func (a *agent) gone(name string) {
	a.t.Helper()
	if err := client.Pods.Delete(a.t.Context(), a.api, "default", name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(2))}); err != nil && !apierrors.IsNotFound(err) {
		a.t.Fatal(err)
	}
	a.eventually(name+" is gone", func(ctx context.Context) error {
		_, err := client.Pods.Get(ctx, a.api, "default", name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %w", err)
	})
}
