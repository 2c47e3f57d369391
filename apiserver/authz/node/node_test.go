package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// world is what the authorizer can look up.
type world struct {
	objects map[string]resource.Object // by plural/namespace/name
	pods    []*corev1.Pod
}

func (w *world) Find(gr schema.GroupResource, namespace, name string) resource.Object {
	return w.objects[gr.Resource+"/"+namespace+"/"+name]
}

func (w *world) PodsOf(node, namespace string) (out []*corev1.Pod) {
	for _, p := range w.pods {
		if p.Spec.NodeName == node && p.Namespace == namespace {
			out = append(out, p)
		}
	}
	return out
}

// pod refers to one object of each kind, all called like it.
func pod(node, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: name, ImagePullSecrets: []corev1.LocalObjectReference{{Name: name + "-pull"}},
			Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}}},
			Volumes: []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}},
				{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}},
			},
			ResourceClaims: []corev1.PodResourceClaim{{Name: "x", ResourceClaimName: &name}},
		},
	}
}

func made() (*Authorizer, *world) {
	w := &world{objects: map[string]resource.Object{}}
	a := New(w, func(i *request.Info) bool { return i.Verb != "deletecollection" })
	for _, p := range []*corev1.Pod{pod("a", "mine"), pod("b", "other")} {
		w.pods = append(w.pods, p)
		w.objects["pods/ns/"+p.Name] = p
		a.Changed(nil, p)
		w.objects["persistentvolumeclaims/ns/"+p.Name] = &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeName: p.Name}}
		w.objects["persistentvolumes//"+p.Name] = &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
			ClaimRef:               &corev1.ObjectReference{Namespace: "ns", Name: p.Name},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{NodePublishSecretRef: &corev1.SecretReference{Namespace: "csi", Name: p.Name}}},
		}}
		w.objects["volumeattachments//"+p.Name] = &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{NodeName: p.Spec.NodeName}}
	}
	return a, w
}

func TestAuthorize(t *testing.T) {
	a, _ := made()
	node := &request.UserInfo{Name: "system:node:a", Groups: []string{Group}}
	type info = request.Info
	on := func(selector string) fields.Selector { return fields.ParseSelectorOrDie(selector) }
	for name, c := range map[string]struct {
		user *request.UserInfo
		info info
		want bool
	}{
		"a secret of its pod":             {node, info{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "mine"}, true},
		"a pull secret":                   {node, info{Verb: "watch", Resource: "secrets", Namespace: "ns", Name: "mine-pull"}, true},
		"a secret of its pod's volume":    {node, info{Verb: "get", Resource: "secrets", Namespace: "csi", Name: "mine"}, true},
		"a secret of another's volume":    {node, info{Verb: "get", Resource: "secrets", Namespace: "csi", Name: "other"}, false},
		"a secret of another":             {node, info{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "other"}, false},
		"of this name elsewhere":          {node, info{Verb: "get", Resource: "secrets", Namespace: "else", Name: "mine"}, false},
		"all secrets":                     {node, info{Verb: "list", Resource: "secrets", Namespace: "ns"}, false},
		"changes a secret":                {node, info{Verb: "update", Resource: "secrets", Namespace: "ns", Name: "mine"}, false},
		"a config map":                    {node, info{Verb: "list", Resource: "configmaps", Namespace: "ns", Name: "mine"}, true},
		"another's config map":            {node, info{Verb: "get", Resource: "configmaps", Namespace: "ns", Name: "other"}, false},
		"a claim":                         {node, info{Verb: "get", Resource: "persistentvolumeclaims", Namespace: "ns", Name: "mine"}, true},
		"a claim's status":                {node, info{Verb: "patch", Resource: "persistentvolumeclaims", Subresource: "status", Namespace: "ns", Name: "mine"}, true},
		"another's claim's status":        {node, info{Verb: "patch", Resource: "persistentvolumeclaims", Subresource: "status", Namespace: "ns", Name: "other"}, false},
		"watches a claim":                 {node, info{Verb: "watch", Resource: "persistentvolumeclaims", Namespace: "ns", Name: "mine"}, false},
		"a volume":                        {node, info{Verb: "get", Resource: "persistentvolumes", Name: "mine"}, true},
		"another's volume":                {node, info{Verb: "get", Resource: "persistentvolumes", Name: "other"}, false},
		"an attachment":                   {node, info{Verb: "get", Group: "storage.k8s.io", Resource: "volumeattachments", Name: "mine"}, true},
		"another's attachment":            {node, info{Verb: "get", Group: "storage.k8s.io", Resource: "volumeattachments", Name: "other"}, false},
		"a token":                         {node, info{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "ns", Name: "mine"}, true},
		"another's token":                 {node, info{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "ns", Name: "other"}, false},
		"changes an account":              {node, info{Verb: "update", Resource: "serviceaccounts", Namespace: "ns", Name: "mine"}, false},
		"devices of its pod":              {node, info{Verb: "get", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "ns", Name: "mine"}, true},
		"devices of another":              {node, info{Verb: "get", Group: "resource.k8s.io", Resource: "resourceclaims", Namespace: "ns", Name: "other"}, false},
		"its lease":                       {node, info{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "a"}, true},
		"another's lease":                 {node, info{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "b"}, false},
		"a lease elsewhere":               {node, info{Verb: "get", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "a"}, false},
		"lists leases":                    {node, info{Verb: "list", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease"}, false},
		"its CSINode":                     {node, info{Verb: "patch", Group: "storage.k8s.io", Resource: "csinodes", Name: "a"}, true},
		"another's CSINode":               {node, info{Verb: "patch", Group: "storage.k8s.io", Resource: "csinodes", Name: "b"}, false},
		"its slices":                      {node, info{Verb: "list", Group: "resource.k8s.io", Resource: "resourceslices", Fields: on("spec.nodeName=a")}, true},
		"all slices":                      {node, info{Verb: "list", Group: "resource.k8s.io", Resource: "resourceslices"}, false},
		"its pod":                         {node, info{Verb: "get", Resource: "pods", Namespace: "ns", Name: "mine"}, true},
		"another's pod":                   {node, info{Verb: "get", Resource: "pods", Namespace: "ns", Name: "other"}, false},
		"its pods":                        {node, info{Verb: "watch", Resource: "pods", Fields: on("spec.nodeName=a")}, true},
		"another's pods":                  {node, info{Verb: "watch", Resource: "pods", Fields: on("spec.nodeName=b")}, false},
		"all but another's":               {node, info{Verb: "list", Resource: "pods", Fields: on("spec.nodeName!=b")}, false},
		"all pods":                        {node, info{Verb: "list", Resource: "pods"}, false},
		"what its role allows":            {node, info{Verb: "list", Resource: "services"}, true},
		"what its role does not":          {node, info{Verb: "deletecollection", Resource: "services"}, false},
		"a user who is no node":           {&request.UserInfo{Name: "ann"}, info{Verb: "list", Resource: "services"}, false},
		"called a node, not in the group": {&request.UserInfo{Name: "system:node:a"}, info{Verb: "list", Resource: "services"}, false},
		"in the group, without a name":    {&request.UserInfo{Name: "system:node:", Groups: []string{Group}}, info{Verb: "list", Resource: "services"}, false},
	} {
		c.info.IsResource = true
		d, reason, err := a.Authorize(t.Context(), c.user, &c.info)
		if err != nil || (d == authz.Allow) != c.want || d == authz.Deny {
			t.Errorf("%s: %v %q %v, want %v", name, d, reason, err, c.want)
		}
	}
}

// TestPodsComeAndGo: the index forgets what nobody refers to any more.
func TestPodsComeAndGo(t *testing.T) {
	a, w := made()
	may := func(node string) bool {
		d, _, err := a.Authorize(t.Context(), &request.UserInfo{Name: Prefix + node, Groups: []string{Group}},
			&request.Info{IsResource: true, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "late"})
		return err == nil && d == authz.Allow
	}
	late := pod("a", "late")
	waiting := pod("", "late")
	a.Changed(nil, waiting)
	if may("a") || may("") {
		t.Error("a pod without a node gives rights")
	}
	a.Changed(waiting, late)
	twin := pod("a", "late")
	twin.Name = "twin"
	a.Changed(nil, twin)
	if !may("a") || may("b") {
		t.Error("bound: not the node's, or another's")
	}
	a.Changed(late, nil)
	if !may("a") {
		t.Error("the twin still refers to it")
	}
	a.Changed(twin, nil)
	if may("a") {
		t.Error("nobody refers to it any more")
	}
	w.pods = append(w.pods, late) // the node knows of it before the index does
	if !may("a") {
		t.Error("a pod that the index does not know yet")
	}
	mirror := pod("b", "late")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	a.Changed(nil, mirror)
	if may("b") {
		t.Error("a node gave itself rights by a mirror pod")
	}
}
