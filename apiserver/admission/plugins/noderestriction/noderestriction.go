// Package noderestriction keeps a node agent to what is its own: its Node, its Lease, its CSINode, its ResourceSlices, the
// pods on it, and tokens for those pods. It holds for users system:node:<name> in the group system:nodes.
//
// Labels below kubernetes.io and k8s.io that a node may not give itself are those of
// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction.
package noderestriction

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz/node"
	"hardway/apiserver/request"
)

// Objects looks things up, as they are now.
type Objects interface {
	Pod(namespace, name string) *corev1.Pod
	Node(name string) *corev1.Node
}

// Plugin is the plugin.
type Plugin struct {
	Objects Objects
	// MayAsk says whether RBAC lets a node ask for a token with an audience that no pod of it mounts.
	MayAsk func(ctx context.Context, user *request.UserInfo, audience, namespace, account string) bool
}

// Name is upstream's.
func (Plugin) Name() string { return "NodeRestriction" }

// write is one write of a node.
type write struct {
	*admission.Attributes
	p    Plugin
	node string
	user *request.UserInfo
}

// rules are what a node must keep to, by kind. Each returns the reason for a refusal, or nothing.
var rules = map[schema.GroupResource]func(w *write, ctx context.Context) string{
	{Resource: "pods"}:                                                        (*write).pod,
	{Resource: "nodes"}:                                                       (*write).itself,
	{Resource: "persistentvolumeclaims"}:                                      (*write).claim,
	{Resource: "serviceaccounts"}:                                             (*write).token,
	{Group: coordinationv1.GroupName, Resource: "leases"}:                     (*write).lease,
	{Group: storagev1.GroupName, Resource: "csinodes"}:                        (*write).csiNode,
	{Group: resourcev1.GroupName, Resource: "resourceslices"}:                 (*write).slice,
	{Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}: (*write).request,
}

// Validate refuses what is not the node's own.
func (p Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	user := request.User(ctx)
	if !user.In(node.Group) {
		return nil
	}
	name, ok := node.Name(user)
	if !ok {
		return nil // no node: the authorizer gives it nothing
	}
	rule := rules[a.Kind.GroupResource()]
	if rule == nil {
		return nil
	}
	if why := rule(&write{Attributes: a, p: p, node: name, user: user}, ctx); why != "" {
		return admission.Forbid(a, "%s", why)
	}
	return nil
}
