package volumebinding_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/cycle"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/plugins/volumebinding"
	"hardway/scheduler/snapshot"
)

const hostname = corev1.LabelHostname

func claim(name, class string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: "1"}}
	c.Spec.StorageClassName = &class
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	for _, f := range change {
		f(c)
	}
	return c
}

func boundTo(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName = volume
		c.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	}
}

func volume(name, class, node string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}}
	v.Spec.StorageClassName = class
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: hostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}}
	v.Status.Phase = corev1.VolumeAvailable
	return v
}

func class(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func pod(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	for _, c := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c},
		}})
	}
	return p
}

// cluster has the nodes a and b.
func cluster(objects ...any) *snapshot.Cluster {
	c := snapshot.New()
	for _, name := range []string{"a", "b"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{hostname: name}}}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("9")}
		c.SetNode(n)
	}
	s := c.View.Storage
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			s.Claims[o.Namespace+"/"+o.Name] = o
		case *corev1.PersistentVolume:
			s.Volumes[o.Name] = o
		case *storagev1.StorageClass:
			s.Classes[o.Name] = o
		}
	}
	return c
}

func TestDecide(t *testing.T) {
	local, driver := class("local", "kubernetes.io/no-provisioner", storagev1.VolumeBindingWaitForFirstConsumer), class("csi", "example.com/csi", storagev1.VolumeBindingWaitForFirstConsumer)
	for name, test := range map[string]struct {
		objects []any
		want    string
		refusal string
	}{
		"no such claim": {refusal: `0/2 nodes are available: persistentvolumeclaim "c" not found.`},
		"bound, on the volume's node": {
			objects: []any{claim("c", "local", boundTo("v")), volume("v", "local", "b"), local}, want: "b",
		},
		"bound to a volume that is gone": {
			objects: []any{claim("c", "local", boundTo("v")), local},
			refusal: "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
		},
		"not bound, and not ours to bind": {
			objects: []any{claim("c", "now"), class("now", "example.com/csi", storagev1.VolumeBindingImmediate)},
			refusal: "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
		},
		"a volume that is there": {objects: []any{claim("c", "local"), volume("v", "local", "b"), local}, want: "b"},
		"no volume, and nobody to make one": {
			objects: []any{claim("c", "local"), local},
			refusal: "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
		},
		"a driver wants one node": {
			objects: []any{claim("c", "csi", func(c *corev1.PersistentVolumeClaim) {
				c.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "a"}
			}), driver}, want: "a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(test.objects...)
			profile := plugins.Default("default-scheduler", &plugins.Needs{Columns: c.Columns})
			d, err := cycle.New(profile, c, nil).Decide(framework.NewPod(pod("p", "c"), c.Columns))
			got, refusal := "", ""
			if d.Node != nil {
				got = d.Node.Name
			}
			if err != nil {
				refusal = err.Error()
			}
			if got != test.want || refusal != test.refusal {
				t.Errorf("node %q refusal %q\nwant %q refusal %q", got, refusal, test.want, test.refusal)
			}
		})
	}
}

// api is a Writer on which claims are bound as soon as their volume or node is written.
type api struct {
	volumes []string
	claims  map[string]*corev1.PersistentVolumeClaim
	failing error
}

func (a *api) UpdateVolume(_ context.Context, v *corev1.PersistentVolume) error {
	a.volumes = append(a.volumes, v.Name+" for "+v.Spec.ClaimRef.Name)
	c := a.claims[v.Spec.ClaimRef.Name].DeepCopy()
	boundTo(v.Name)(c)
	a.claims[c.Name] = c
	return a.failing
}

func (a *api) UpdateClaim(_ context.Context, c *corev1.PersistentVolumeClaim) error {
	c = c.DeepCopy()
	boundTo("made")(c)
	a.claims[c.Name] = c
	return a.failing
}

func (a *api) Claim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	return a.claims[name], nil
}

// TestNoVolumeTwice reserves the only volume for one pod, so that the next finds none until it is given back.
func TestNoVolumeTwice(t *testing.T) {
	c := cluster(claim("c", "local"), claim("d", "local"), volume("v", "local", "b"), class("local", "kubernetes.io/no-provisioner", storagev1.VolumeBindingWaitForFirstConsumer))
	w := &api{claims: map[string]*corev1.PersistentVolumeClaim{"c": claim("c", "local")}}
	plugin := &volumebinding.Plugin{Writer: w, Patience: time.Minute}
	profile := plugins.Default("default-scheduler", &plugins.Needs{Columns: c.Columns})
	cyc := cycle.New(profile, c, nil)
	first := framework.NewPod(pod("p", "c"), c.Columns)
	d, err := cyc.Decide(first)
	if err != nil {
		t.Fatal(err)
	}
	state := d.State("VolumeBinding")
	if no := plugin.Reserve(c.View, state, first, d.Node); no != nil {
		t.Fatal(no.Reason)
	}
	second := framework.NewPod(pod("q", "d"), c.Columns)
	if d, err := cyc.Decide(second); err == nil {
		t.Errorf("the volume went to a second pod, on %s", d.Node.Name)
	}
	if err := plugin.PreBind(t.Context(), state, first, d.Node.Name); err != nil || len(w.volumes) != 1 || w.volumes[0] != "v for c" {
		t.Errorf("wrote %v: %v", w.volumes, err)
	}
	plugin.Unreserve(c.View, state, first, d.Node.Name)
	if _, err := cyc.Decide(second); err != nil {
		t.Errorf("not free again: %v", err)
	}
}
