// Package ownerreferencespermission lets only those change the owners of an object who may delete it, and only those make
// an owner wait for it who may set the owner's finalizers.
package ownerreferencespermission

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// Plugin is the plugin.
type Plugin struct {
	Authorizer authz.Authorizer
	// Resource finds what a kind is called in URLs, and whether it lies in namespaces.
	Resource func(gvk schema.GroupVersionKind) (plural string, namespaced, ok bool)
}

// Name is upstream's.
func (Plugin) Name() string { return "OwnerReferencesPermissionEnforcement" }

// Validate looks at changes of owners.
func (p Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	// Subresources that act on the object, and pods' status, cannot change owners.
	if a.Object == nil || a.Kind.GroupResource() == (schema.GroupResource{Resource: "pods"}) && a.Subresource == "status" {
		return nil
	}
	now := a.Object.GetOwnerReferences()
	var old []metav1.OwnerReference
	if a.Old != nil {
		old = a.Old.GetOwnerReferences()
	}
	if equality.Semantic.DeepEqual(now, old) || len(now)+len(old) == 0 {
		return nil
	}
	if a.Operation != admission.Create {
		info := &request.Info{
			IsResource: true, Verb: "delete", Group: a.Kind.Group, Version: a.Kind.Version, Resource: a.Kind.Plural, Subresource: a.Subresource,
			Namespace: a.Namespace, Name: a.Name,
		}
		if ok, reason := p.may(ctx, info); !ok {
			return admission.Forbid(a, "cannot set an ownerRef on a resource you can't delete: %s", reason)
		}
	}
	blocking := newlyBlocking(now, old)
	if len(blocking) == 0 {
		return nil
	}
	if ok, _ := p.may(ctx, &request.Info{IsResource: true, Verb: "update", Group: "*", Version: "*", Resource: "*", Subresource: "finalizers", Name: "*"}); ok {
		return nil
	}
	for _, ref := range blocking {
		gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
		plural, namespaced, ok := p.Resource(gvk)
		if !ok {
			return admission.Forbid(a, "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %s Kind %s", ref.APIVersion, ref.Kind)
		}
		info := &request.Info{IsResource: true, Verb: "update", Group: gvk.Group, Version: gvk.Version, Resource: plural, Subresource: "finalizers", Name: ref.Name}
		if namespaced {
			info.Namespace = a.Namespace
		}
		if ok, reason := p.may(ctx, info); !ok {
			return admission.Forbid(a, "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %s", reason)
		}
	}
	return nil
}

func (p Plugin) may(ctx context.Context, info *request.Info) (bool, string) {
	d, reason, err := p.Authorizer.Authorize(ctx, request.User(ctx), info)
	if err != nil {
		reason += ": " + err.Error()
	}
	return d == authz.Allow, reason
}

// newlyBlocking lists the owners that wait for the object and did not before.
func newlyBlocking(now, old []metav1.OwnerReference) []metav1.OwnerReference {
	blocks := func(r metav1.OwnerReference) bool { return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion }
	var out []metav1.OwnerReference
	for _, ref := range now {
		if blocks(ref) && !slices.ContainsFunc(old, func(o metav1.OwnerReference) bool { return o.UID == ref.UID && blocks(o) }) {
			out = append(out, ref)
		}
	}
	return out
}
