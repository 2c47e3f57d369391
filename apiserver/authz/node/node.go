// Package node decides what node agents may do: a user system:node:<name> in the group system:nodes reads only the
// secrets, config maps, claims, volumes and accounts that pods on its node refer to, and writes only what is its own.
//
// Which objects a node's pods refer to is kept by following the pods, so that a decision is a look into a map. A miss is
// checked against the pods themselves, because a node may be told of a pod before this index is. The rules that need no
// look at objects are those of the role system:node.
package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// The names by which nodes are known.
const (
	Group  = "system:nodes"
	Prefix = "system:node:"
)

// Name returns the node that a user is; false when it is none.
func Name(user *request.UserInfo) (string, bool) {
	if !user.In(Group) {
		return "", false
	}
	name, ok := strings.CutPrefix(user.Name, Prefix)
	return name, ok && name != ""
}

// Objects looks things up.
type Objects interface {
	// Find returns one object, as far as it is known here; nil when there is none.
	Find(gr schema.GroupResource, namespace, name string) resource.Object
	// PodsOf returns the pods of a namespace that are on a node.
	PodsOf(node, namespace string) []*corev1.Pod
}

// Authorizer is the authorizer. It is safe for concurrent use.
type Authorizer struct {
	objects Objects
	allows  func(info *request.Info) bool // the role system:node

	mu   sync.RWMutex           // guards refs
	refs map[string]map[ref]int // by node: how many of its pods refer to an object
}

// New makes an authorizer. allows says what every node may do, whatever the object; see rbac.RulesAllow.
func New(objects Objects, allows func(info *request.Info) bool) *Authorizer {
	return &Authorizer{objects: objects, allows: allows, refs: map[string]map[ref]int{}}
}

// RoleName is the cluster role whose rules every node has.
const RoleName = "system:node"

// Role finds the role of nodes among roles; it panics without one: a broken program.
func Role(roles []*rbacv1.ClusterRole) []rbacv1.PolicyRule {
	for _, r := range roles {
		if r.Name == RoleName {
			return r.Rules
		}
	}
	panic("no role " + RoleName)
}

// Changed takes a change of a pod: old is nil for a new one, now for one that is gone.
func (a *Authorizer) Changed(old, now resource.Object) {
	was, _ := old.(*corev1.Pod)
	is, _ := now.(*corev1.Pod)
	if was != nil && is != nil && was.Spec.NodeName == is.Spec.NodeName && sameRefs(was, is) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if was != nil {
		a.count(was, -1)
	}
	if is != nil {
		a.count(is, 1)
	}
}

// sameRefs: of what a pod refers to, only ephemeral containers and claim statuses can change.
func sameRefs(a, b *corev1.Pod) bool {
	return len(a.Spec.EphemeralContainers) == len(b.Spec.EphemeralContainers) &&
		len(a.Status.ResourceClaimStatuses) == len(b.Status.ResourceClaimStatuses)
}

func (a *Authorizer) count(p *corev1.Pod, by int) {
	node := p.Spec.NodeName
	if node == "" {
		return
	}
	refs := a.refs[node]
	if refs == nil {
		refs = map[ref]int{}
		a.refs[node] = refs
	}
	for r := range refsOf(p) {
		if refs[r] += by; refs[r] <= 0 {
			delete(refs, r)
		}
	}
	if len(refs) == 0 {
		delete(a.refs, node)
	}
}

// refers says whether a pod on the node refers to an object.
func (a *Authorizer) refers(node string, r ref) bool {
	a.mu.RLock()
	known := a.refs[node][r] > 0
	a.mu.RUnlock()
	if known {
		return true
	}
	for _, p := range a.objects.PodsOf(node, r.namespace) {
		if _, ok := refsOf(p)[r]; ok {
			return true
		}
	}
	return false
}

// Authorize decides about requests of nodes and has no opinion about others.
func (a *Authorizer) Authorize(_ context.Context, user *request.UserInfo, info *request.Info) (authz.Decision, string, error) {
	node, ok := Name(user)
	if !ok {
		if user.In(Group) {
			return authz.NoOpinion, fmt.Sprintf("unknown node for user %q", user.Name), nil
		}
		return authz.NoOpinion, "", nil
	}
	if why := a.refuse(node, info); why != "" {
		return authz.NoOpinion, why, nil
	}
	return authz.Allow, "", nil
}

// refuse says why a node may not do something; empty: it may.
func (a *Authorizer) refuse(node string, info *request.Info) string {
	if check := checks[schema.GroupResource{Group: info.Group, Resource: info.Resource}]; check != nil && info.IsResource {
		return check(a, node, info)
	}
	if !a.allows(info) {
		return fmt.Sprintf("node %q cannot do that", node)
	}
	return ""
}

// check is the rule for one resource.
type check func(a *Authorizer, node string, info *request.Info) string

var (
	pods   = schema.GroupResource{Resource: "pods"}
	claims = schema.GroupResource{Resource: "persistentvolumeclaims"}
	volume = schema.GroupResource{Resource: "persistentvolumes"}
	attach = schema.GroupResource{Group: storagev1.GroupName, Resource: "volumeattachments"}
)

// checks are the resources of which a node sees a part. For all others the role's rules are enough.
var checks = map[schema.GroupResource]check{
	pods:                  (*Authorizer).pod,
	{Resource: "secrets"}: readable("secrets", (*Authorizer).secret),
	{Resource: "configmaps"}: readable("configmaps", func(a *Authorizer, node string, i *request.Info) bool {
		return a.refers(node, ref{"configmaps", i.Namespace, i.Name})
	}),
	claims:                        claim,
	volume:                        readable("persistentvolumes", (*Authorizer).volume),
	attach:                        readable("volumeattachments", (*Authorizer).attachment),
	{Resource: "serviceaccounts"}: account,
	{Group: "resource.k8s.io", Resource: "resourceclaims"}: readable("resourceclaims", func(a *Authorizer, node string, i *request.Info) bool {
		return a.refers(node, ref{"resourceclaims", i.Namespace, i.Name})
	}),
	{Group: "coordination.k8s.io", Resource: "leases"}:     lease,
	{Group: storagev1.GroupName, Resource: "csinodes"}:     own("CSINode", "get", "create", "update", "patch", "delete"),
	{Group: "resource.k8s.io", Resource: "resourceslices"}: slice,
}

// readable makes the check of objects that may be read, one by one, when related says that they concern the node.
func readable(plural string, related func(a *Authorizer, node string, info *request.Info) bool) check {
	return func(a *Authorizer, node string, info *request.Info) string {
		switch {
		case info.Subresource != "":
			return "cannot read subresource"
		case info.Verb != "get" && info.Verb != "list" && info.Verb != "watch":
			return "can only read resources of this type"
		case info.Name == "":
			return "No Object name found"
		case info.Verb != "get" && plural != "secrets" && plural != "configmaps":
			return "can only get individual resources of this type"
		case !related(a, node, info):
			return fmt.Sprintf("no relationship found between node '%s' and this object", node)
		}
		return ""
	}
}

// pod: pods of the node can be read, and written as far as the role says; admission looks closer.
//
// Pods that are listed or watched must be selected by the node's name.
func (a *Authorizer) pod(node string, info *request.Info) string {
	switch info.Verb {
	case "get":
		if p, _ := a.objects.Find(pods, info.Namespace, info.Name).(*corev1.Pod); p != nil && p.Spec.NodeName != node {
			return fmt.Sprintf("no relationship found between node '%s' and this object", node)
		}
	case "list", "watch", "deletecollection":
		if info.Fields == nil {
			return "can only list/watch pods with spec.nodeName field selector"
		}
		if selected, ok := info.Fields.RequiresExactMatch("spec.nodeName"); !ok || selected != node {
			return "can only list/watch pods with spec.nodeName field selector"
		}
	}
	if !a.allows(info) {
		return fmt.Sprintf("node %q cannot do that", node)
	}
	return ""
}

// secret: those that pods name, and those that their volumes need.
func (a *Authorizer) secret(node string, info *request.Info) bool {
	if a.refers(node, ref{"secrets", info.Namespace, info.Name}) {
		return true
	}
	wanted := ref{"secrets", info.Namespace, info.Name}
	a.mu.RLock()
	var names []ref
	for r := range a.refs[node] {
		if r.kind == "persistentvolumeclaims" {
			names = append(names, r)
		}
	}
	a.mu.RUnlock()
	return slices.ContainsFunc(names, func(r ref) bool {
		c, _ := a.objects.Find(claims, r.namespace, r.name).(*corev1.PersistentVolumeClaim)
		if c == nil || c.Spec.VolumeName == "" {
			return false
		}
		v, _ := a.objects.Find(volume, "", c.Spec.VolumeName).(*corev1.PersistentVolume)
		return v != nil && slices.Contains(volumeSecrets(v), wanted)
	})
}

// volume: those that are bound to claims of the node's pods.
func (a *Authorizer) volume(node string, info *request.Info) bool {
	v, _ := a.objects.Find(volume, "", info.Name).(*corev1.PersistentVolume)
	return v != nil && v.Spec.ClaimRef != nil && a.refers(node, ref{"persistentvolumeclaims", v.Spec.ClaimRef.Namespace, v.Spec.ClaimRef.Name})
}

func (a *Authorizer) attachment(node string, info *request.Info) bool {
	v, _ := a.objects.Find(attach, "", info.Name).(*storagev1.VolumeAttachment)
	return v != nil && v.Spec.NodeName == node
}

// claim: claims of the node's pods can be read, and their status written while a volume grows.
func claim(a *Authorizer, node string, info *request.Info) string {
	if info.Subresource != "status" {
		return readable("persistentvolumeclaims", func(a *Authorizer, node string, i *request.Info) bool {
			return a.refers(node, ref{"persistentvolumeclaims", i.Namespace, i.Name})
		})(a, node, info)
	}
	switch info.Verb {
	case "get", "update", "patch":
	default:
		return "can only get, update, or patch status"
	}
	if !a.refers(node, ref{"persistentvolumeclaims", info.Namespace, info.Name}) {
		return fmt.Sprintf("no relationship found between node '%s' and this object", node)
	}
	return ""
}

// account: tokens for accounts of the node's pods. The account itself can be read, for pull credentials.
func account(a *Authorizer, node string, info *request.Info) string {
	switch {
	case info.Subresource == "token" && info.Verb == "create", info.Subresource == "" && info.Verb == "get":
	default:
		return "can only get service accounts and create their tokens"
	}
	if !a.refers(node, ref{"serviceaccounts", info.Namespace, info.Name}) {
		return fmt.Sprintf("no relationship found between node '%s' and this object", node)
	}
	return ""
}

// lease: a node's own heartbeat.
func lease(_ *Authorizer, node string, info *request.Info) string {
	if !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, info.Verb) {
		return "can only get, create, update, patch, or delete a node lease"
	}
	if info.Namespace != corev1.NamespaceNodeLease {
		return fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	// On create the name is not in the URL: admission looks at the object.
	if info.Verb != "create" && info.Name != node {
		return "can only access node lease with the same name as the requesting node"
	}
	return ""
}

// own makes the check of objects outside namespaces that are called like the node.
func own(kind string, verbs ...string) check {
	return func(_ *Authorizer, node string, info *request.Info) string {
		if info.Subresource != "" {
			return fmt.Sprintf("cannot authorize %s subresources", kind)
		}
		if !slices.Contains(verbs, info.Verb) {
			return fmt.Sprintf("can only %s a %s", strings.Join(verbs, ", "), kind)
		}
		if info.Verb != "create" && info.Name != node {
			return fmt.Sprintf("can only access %s with the same name as the requesting node", kind)
		}
		return ""
	}
}

// slice: devices of the node.
func slice(a *Authorizer, node string, info *request.Info) string {
	if info.Subresource != "" {
		return "cannot authorize ResourceSlice subresources"
	}
	switch info.Verb {
	case "create":
		return "" // admission looks at the node's name
	case "get", "update", "patch", "delete":
		s, _ := a.objects.Find(schema.GroupResource{Group: info.Group, Resource: info.Resource}, "", info.Name).(interface{ GetName() string })
		if s == nil || nodeOfSlice(s) == node {
			return ""
		}
		return fmt.Sprintf("no relationship found between node '%s' and this object", node)
	case "list", "watch", "deletecollection":
		if info.Fields != nil {
			if selected, ok := info.Fields.RequiresExactMatch("spec.nodeName"); ok && selected == node {
				return ""
			}
		}
		return "can only list/watch/deletecollection resourceslices with spec.nodeName field selector"
	}
	return "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
}
