package binder

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func sized(size string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func claim(change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: "c1", Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: new("slow"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: sized("5Gi")},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func volume(name, size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: sized(size), StorageClassName: "slow", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, f := range change {
		f(v)
	}
	return v
}

func of(name string, uid types.UID) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: name, UID: uid}
	}
}

func class(provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "slow"}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func names(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}

func complete(c *corev1.PersistentVolumeClaim) { c.Annotations[bindCompleted] = "yes" }

func TestPlanClaim(t *testing.T) {
	now, later := storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer
	for name, c := range map[string]struct {
		facts claimFacts
		want  string
	}{
		"the smallest that fits": {claimFacts{claim: claim(), free: []*corev1.PersistentVolume{
			volume("big", "20Gi"), volume("small", "1Gi"), volume("right", "6Gi"), volume("taken", "5Gi", of("other", "c2")),
		}}, "bind right"},
		"reserved before free": {claimFacts{claim: claim(), reserved: []*corev1.PersistentVolume{volume("mine", "50Gi", of("data", ""))},
			free: []*corev1.PersistentVolume{volume("right", "5Gi")}}, "bind mine"},
		"reserved, though the class waits":       {claimFacts{claim: claim(), class: class("x/y", later), reserved: []*corev1.PersistentVolume{volume("mine", "50Gi", of("data", ""))}}, "bind mine"},
		"reserved for a claim of that name once": {claimFacts{claim: claim(), reserved: []*corev1.PersistentVolume{volume("old", "50Gi", of("data", "c2"))}, class: class("x/y", now)}, "provision"},
		"labels": {claimFacts{claim: claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "ssd"}}
		}), free: []*corev1.PersistentVolume{volume("plain", "5Gi"), volume("ssd", "9Gi", func(v *corev1.PersistentVolume) { v.Labels = map[string]string{"disk": "ssd"} })}}, "bind ssd"},
		"access modes": {claimFacts{claim: claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		}), class: class(noProvisioner, now), free: []*corev1.PersistentVolume{volume("a", "5Gi")}}, "wait FailedBinding"},
		"first consumer":   {claimFacts{claim: claim(), class: class("x/y", later), free: []*corev1.PersistentVolume{volume("a", "5Gi")}}, "wait WaitForFirstConsumer"},
		"consumer waits":   {claimFacts{claim: claim(), class: class("x/y", later), pod: "web"}, "wait WaitForPodScheduled"},
		"node is chosen":   {claimFacts{claim: claim(func(c *corev1.PersistentVolumeClaim) { c.Annotations[selectedNode] = "n" }), class: class("x/y", later)}, "provision"},
		"no class":         {claimFacts{claim: claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil })}, "wait FailedBinding"},
		"unknown class":    {claimFacts{claim: claim()}, "wait ProvisioningFailed"},
		"named":            {claimFacts{claim: claim(names("v")), named: volume("v", "5Gi")}, "bind v"},
		"named, too small": {claimFacts{claim: claim(names("v")), named: volume("v", "1Gi")}, "wait VolumeMismatch"},
		"named, another's": {claimFacts{claim: claim(names("v")), named: volume("v", "5Gi", of("other", "c2"))}, "wait FailedBinding"},
		"named, not there": {claimFacts{claim: claim(names("v"))}, "wait FailedBinding"},
		"bound":            {claimFacts{claim: claim(names("v"), complete), named: volume("v", "5Gi", of("data", "c1"))}, "bind v"},
		"volume lost":      {claimFacts{claim: claim(names("v"), complete)}, "lost ClaimLost"},
		"name lost":        {claimFacts{claim: claim(complete)}, "lost ClaimLost"},
		"misbound":         {claimFacts{claim: claim(names("v"), complete), named: volume("v", "5Gi", of("other", "c2"))}, "lost ClaimMisbound"},
	} {
		t.Run(name, func(t *testing.T) {
			p := planClaim(c.facts)
			got := ""
			switch {
			case p.bind != nil:
				got = "bind " + p.bind.Name
			case p.provision:
				got = "provision"
			case p.lost:
				got = "lost " + p.reason
			case p.reason != "":
				got = "wait " + p.reason
			}
			if got != c.want {
				t.Errorf("%s (%s), want %s", got, p.message, c.want)
			}
		})
	}
}

func TestPlanVolume(t *testing.T) {
	made := func(v *corev1.PersistentVolume) {
		v.Annotations[provisionedBy] = "x/y"
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	}
	for name, c := range map[string]struct {
		volume *corev1.PersistentVolume
		claim  *corev1.PersistentVolumeClaim
		want   fate
	}{
		"nobody's":                     {volume("v", "1Gi"), nil, free},
		"reserved":                     {volume("v", "1Gi", of("data", "")), nil, free},
		"claim is gone":                {volume("v", "1Gi", of("data", "c1")), nil, release},
		"claim was made anew":          {volume("v", "1Gi", of("data", "c2")), claim(), release},
		"bound":                        {volume("v", "1Gi", of("data", "c1")), claim(names("v")), bound},
		"about to be":                  {volume("v", "1Gi", of("data", "c1")), claim(), leave},
		"claim took another":           {volume("v", "1Gi", of("data", "c1")), claim(names("w")), unbind},
		"made for one that took other": {volume("v", "1Gi", of("data", "c1"), made), claim(names("w")), release},
	} {
		if got := planVolume(c.volume, c.claim); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestPlanReclaim(t *testing.T) {
	host := func(v *corev1.PersistentVolume) {
		v.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/data"}
	}
	by := func(name string) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Annotations[provisionedBy] = name }
	}
	for name, c := range map[string]struct {
		policy corev1.PersistentVolumeReclaimPolicy
		change []func(*corev1.PersistentVolume)
		want   reclaim
	}{
		"retain":            {corev1.PersistentVolumeReclaimRetain, nil, keep},
		"recycle":           {corev1.PersistentVolumeReclaimRecycle, []func(*corev1.PersistentVolume){host}, scrub},
		"recycle, other":    {corev1.PersistentVolumeReclaimRecycle, nil, refuse},
		"delete ours":       {corev1.PersistentVolumeReclaimDelete, []func(*corev1.PersistentVolume){host, by(Provisioner)}, scrub},
		"delete others'":    {corev1.PersistentVolumeReclaimDelete, []func(*corev1.PersistentVolume){by("x/y")}, external},
		"delete a person's": {corev1.PersistentVolumeReclaimDelete, []func(*corev1.PersistentVolume){host}, refuse},
	} {
		v := volume("v", "1Gi", c.change...)
		v.Spec.PersistentVolumeReclaimPolicy = c.policy
		if got := planReclaim(v); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestLocalVolume(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelHostname: "host"}}}
	for name, c := range map[string]struct {
		change     func(*corev1.PersistentVolumeClaim)
		parameters map[string]string
		want       string // path, or part of the error
	}{
		"default":       {nil, nil, "/var/lib/hardway/volumes/pvc-c1"},
		"path":          {nil, map[string]string{"path": "/srv/"}, "/srv/pvc-c1"},
		"relative path": {nil, map[string]string{"path": "srv"}, "is not an absolute path"},
		"unknown":       {nil, map[string]string{"size": "1"}, `"size" is unknown`},
		"block":         {func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) }, nil, "no block devices"},
	} {
		k := class(Provisioner, storagev1.VolumeBindingWaitForFirstConsumer)
		k.Parameters = c.parameters
		cl := claim()
		if c.change != nil {
			c.change(cl)
		}
		v, err := localVolume(cl, k, node)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = v.Spec.HostPath.Path
			if !keptFor(v, cl) || misfit(cl, v) != "" || !IsLocal(v) {
				t.Errorf("%s: %+v", name, v)
			}
			if pod := scrubPod(v, "busybox"); pod.Spec.Containers[0].Env[0].Value != "pvc-c1" {
				t.Errorf("%s: %+v", name, pod.Spec)
			}
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
