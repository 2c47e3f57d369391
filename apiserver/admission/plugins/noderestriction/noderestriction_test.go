package noderestriction

import (
	"context"
	"maps"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/coordination"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

type objects struct{}

func (objects) Node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
}

func (objects) Pod(namespace, name string) *corev1.Pod {
	if name == "gone" {
		return nil
	}
	p := pod(name)
	p.Namespace = namespace
	return p
}

// pod is one that is on the node its name begins with.
func pod(name string) *corev1.Pod {
	on, _, _ := strings.Cut(name, "-")
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{NodeName: on, ServiceAccountName: "sa", Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault"}}}}}}}},
	}
}

func mirror(change func(*corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "static-a", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "a", UID: "uid-a", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "a"},
	}
	if change != nil {
		change(p)
	}
	return p
}

func selfWith(labels map[string]string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: maps.Clone(labels)}, Spec: corev1.NodeSpec{Taints: taints}}
}

func bound(name, uid string, audiences ...string) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa"},
		Spec:       authenticationv1.TokenRequestSpec{Audiences: audiences, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: types.UID(uid)}},
	}
}

// TestWrites is what node "a" tries.
func TestWrites(t *testing.T) {
	podA, podB := pod("a-1"), pod("b-1")
	relabelled := podA.DeepCopy()
	relabelled.Labels = map[string]string{"app": "bank"}
	lease := func(namespace, name string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	restricted := map[string]string{"node-restriction.kubernetes.io/trusted": "yes"}
	for name, c := range map[string]struct {
		op       admission.Operation
		kind     *resource.Kind
		sub      string
		now, old resource.Object
		want     string // a part of the reason; empty: allowed
	}{
		"mirror pod":             {admission.Create, core.Pod, "", mirror(nil), nil, ""},
		"ordinary pod":           {admission.Create, core.Pod, "", podA, nil, "can only create mirror pods"},
		"mirror elsewhere":       {admission.Create, core.Pod, "", mirror(func(p *corev1.Pod) { p.Spec.NodeName = "b" }), nil, "spec.nodeName set to itself"},
		"mirror of other's":      {admission.Create, core.Pod, "", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].Name = "b" }), nil, "single owner reference"},
		"mirror of an old node":  {admission.Create, core.Pod, "", mirror(func(p *corev1.Pod) { p.OwnerReferences[0].UID = "x" }), nil, "UID mismatch"},
		"mirror with a secret":   {admission.Create, core.Pod, "", mirror(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}} }), nil, "reference secrets"},
		"mirror with an account": {admission.Create, core.Pod, "", mirror(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "admin" }), nil, "reference serviceaccounts"},
		"status":                 {admission.Update, core.Pod, "status", podA, podA, ""},
		"other's status":         {admission.Update, core.Pod, "status", podB, podB, "can only update pod status"},
		"labels through status":  {admission.Update, core.Pod, "status", relabelled, podA, "cannot update labels"},
		"spec":                   {admission.Update, core.Pod, "", podA, podA, "unexpected operation"},
		"bind":                   {admission.Update, core.Pod, "binding", podA, podA, "unexpected pod subresource"},
		"delete":                 {admission.Delete, core.Pod, "", nil, podA, ""},
		"delete other's":         {admission.Delete, core.Pod, "", nil, podB, "can only delete pods"},
		"register":               {admission.Create, core.Node, "", selfWith(map[string]string{corev1.LabelHostname: "a", "zone": "x"}, corev1.Taint{Key: "k"}), nil, ""},
		"register trusted":       {admission.Create, core.Node, "", selfWith(restricted), nil, "node-restriction.kubernetes.io/trusted"},
		"control plane":          {admission.Create, core.Node, "", selfWith(map[string]string{"node-role.kubernetes.io/control-plane": ""}), nil, "node-role"},
		"become trusted":         {admission.Update, core.Node, "status", selfWith(restricted), selfWith(nil), "is not allowed to modify labels"},
		"stay trusted":           {admission.Update, core.Node, "status", selfWith(restricted), selfWith(restricted), ""},
		"no longer trusted":      {admission.Update, core.Node, "", selfWith(nil), selfWith(restricted), "is not allowed to modify labels"},
		"untaint":                {admission.Update, core.Node, "", selfWith(nil), selfWith(nil, corev1.Taint{Key: "k"}), "modify taints"},
		"another node":           {admission.Update, core.Node, "status", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, `is not allowed to modify node "b"`},
		"lease":                  {admission.Create, coordination.Lease, "", lease(corev1.NamespaceNodeLease, "a"), nil, ""},
		"other's lease":          {admission.Create, coordination.Lease, "", lease(corev1.NamespaceNodeLease, "b"), nil, "same name as the requesting node"},
		"election":               {admission.Update, coordination.Lease, "", lease("kube-system", "a"), lease("kube-system", "a"), "can only access leases"},
		"token":                  {admission.Create, core.ServiceAccount, "token", bound("a-1", "uid-a-1", "vault"), nil, ""},
		"token for its RBAC":     {admission.Create, core.ServiceAccount, "token", bound("a-1", "uid-a-1", "granted"), nil, ""},
		"foreign audience":       {admission.Create, core.ServiceAccount, "token", bound("a-1", "uid-a-1", "bank"), nil, `audience "bank" not found`},
		"token for a pod of b":   {admission.Create, core.ServiceAccount, "token", bound("b-1", "uid-b-1"), nil, "scheduled on a different node"},
		"token for a former pod": {admission.Create, core.ServiceAccount, "token", bound("a-1", "x"), nil, "does not match the UID"},
		"token for a pod gone":   {admission.Create, core.ServiceAccount, "token", bound("gone", "x"), nil, "not found"},
		"token for nothing":      {admission.Create, core.ServiceAccount, "token", &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "sa"}}, nil, "not bound to a pod"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &admission.Attributes{Operation: c.op, Kind: c.kind, Subresource: c.sub, Object: c.now, Old: c.old}
			named := c.now
			if named == nil {
				named = c.old
			}
			a.Namespace, a.Name = named.GetNamespace(), named.GetName()
			ctx := request.With(context.Background(), &request.State{User: &request.UserInfo{Name: "system:node:a", Groups: []string{"system:nodes"}}})
			err := Plugin{Objects: objects{}, MayAsk: func(_ context.Context, _ *request.UserInfo, audience, _, _ string) bool { return audience == "granted" }}.Validate(ctx, a)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
			other := request.With(context.Background(), &request.State{User: &request.UserInfo{Name: "admin"}})
			if err := (Plugin{Objects: objects{}}).Validate(other, a); err != nil {
				t.Errorf("somebody else: %v", err)
			}
		})
	}
}
