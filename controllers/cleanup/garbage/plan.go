package garbage

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/cleanup/resources"
)

// settling is how long a supposed owner may be missing from the watches before it is asked for: two watches never run
// in step.
const settling = time.Second

// standing is what is known of one owner of an object.
type standing uint8

const (
	solid    standing = iota // it lives: the object stays
	absent                   // it does not exist, for certain
	waiting                  // it is being deleted and waits for its dependents
	unsure                   // nobody knows; ask the server
	settled                  // supposed and too young to ask
	unusable                 // the reference can never be resolved: it crosses namespaces
)

// ownerView is one owner reference and its standing.
type ownerView struct {
	ref      metav1.OwnerReference
	standing standing
}

// object is where an object is, and which one.
type object struct {
	resource  resources.Resource
	namespace string
	name      string
	uid       types.UID
}

// view is what the graph knows of one object, taken at one moment.
type view struct {
	object
	version    string
	deleting   bool
	finalizers []string
	owners     []ownerView
	dependents []dependent
}

// dependent is an object that names another one as owner.
type dependent struct {
	object
	version  string
	refs     []metav1.OwnerReference
	blocking bool // it keeps its owner from going in the foreground
	deleting bool
}

// see returns the view of an observed object; false when there is none. namespaced tells whether a kind lives in
// namespaces; known is false for kinds that are not served.
func (g *graph) see(uid types.UID, namespaced func(metav1.OwnerReference) (yes, known bool), now time.Time) (view, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil || n.state != observed {
		return view{}, false
	}
	v := view{object: n.object(), version: n.version, deleting: n.deleting, finalizers: slices.Clone(n.finalizers)}
	for _, ref := range n.owners {
		v.owners = append(v.owners, ownerView{ref, g.stand(n, ref, namespaced, now)})
	}
	for d := range n.dependents {
		if d.state != observed {
			continue
		}
		at := slices.IndexFunc(d.owners, func(r metav1.OwnerReference) bool { return r.UID == uid })
		v.dependents = append(v.dependents, dependent{
			object: d.object(), version: d.version, refs: slices.Clone(d.owners),
			blocking: at >= 0 && blocks(d.owners[at]), deleting: d.deleting,
		})
	}
	return v, true
}

// object tells where an observed node's object is.
func (n *node) object() object {
	return object{resource: *n.resource, namespace: n.namespace, name: n.name, uid: n.uid}
}

// stand judges one owner reference. The caller holds the lock.
func (g *graph) stand(n *node, ref metav1.OwnerReference, namespaced func(metav1.OwnerReference) (yes, known bool), now time.Time) standing {
	owner := g.nodes[ref.UID]
	yes, known := namespaced(ref)
	switch {
	case !n.resource.Namespaced && yes:
		return unusable // an object outside of namespaces cannot say in which one its owner is
	case owner == nil || (owner.state != gone && !known):
		return unsure
	case owner.state == gone:
		return absent
	case owner.state == supposed && now.Sub(owner.since) < settling:
		return settled
	case owner.state == supposed || misplaced(n, owner, ref):
		return unsure
	case owner.waitsFor(metav1.FinalizerDeleteDependents):
		return waiting
	default:
		return solid
	}
}

// action is what is to be done with an object.
type action uint8

const (
	nothing  action = iota
	later           // look again when owners have had time to settle
	remove          // delete it, by the policy of the plan
	dropRefs        // take the owner references to drop off it
	finish          // take the finalizer foregroundDeletion off it: nothing blocks it any more
	chase           // look at the dependents that block it
	orphan          // take it off its dependents' owners, then take the finalizer orphan off it
)

// plan is a decision about one object.
type plan struct {
	action  action
	policy  metav1.DeletionPropagation
	drop    []types.UID // owner references to take off
	unblock bool        // its dependents' references must stop blocking first: they wait for each other in a circle
	chase   []types.UID // dependents to look at
}

// makePlan decides about an object whose owners have been asked for where need be: none of them is unsure any more.
func makePlan(v view) plan {
	if v.deleting {
		return planDeleting(v)
	}
	if len(v.owners) == 0 {
		return plan{}
	}
	var drop []types.UID
	alive, waits := false, false
	for _, o := range v.owners {
		switch o.standing {
		case settled, unsure:
			return plan{action: later}
		case solid, unusable:
			alive = true
		case absent:
			drop = append(drop, o.ref.UID)
		case waiting:
			waits = true
			drop = append(drop, o.ref.UID)
		}
	}
	switch {
	case alive && len(drop) == 0:
		return plan{}
	case alive:
		return plan{action: dropRefs, drop: drop}
	case waits && len(v.dependents) > 0:
		return plan{action: remove, policy: metav1.DeletePropagationForeground, unblock: circular(v)}
	default:
		return plan{action: remove, policy: policyOf(v.finalizers)}
	}
}

// planDeleting decides about an object that is being deleted.
func planDeleting(v view) plan {
	switch {
	case slices.Contains(v.finalizers, metav1.FinalizerOrphanDependents):
		return plan{action: orphan}
	case slices.Contains(v.finalizers, metav1.FinalizerDeleteDependents):
		var blocking []types.UID
		for _, d := range v.dependents {
			if d.blocking {
				blocking = append(blocking, d.uid)
			}
		}
		if len(blocking) == 0 {
			return plan{action: finish}
		}
		return plan{action: chase, chase: blocking}
	default:
		return plan{}
	}
}

// circular reports whether a dependent is being deleted already: it may be waiting for this very object.
func circular(v view) bool {
	return slices.ContainsFunc(v.dependents, func(d dependent) bool { return d.deleting && d.blocking })
}

// policyOf is the policy that finalizers already on an object ask for.
func policyOf(finalizers []string) metav1.DeletionPropagation {
	switch {
	case slices.Contains(finalizers, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(finalizers, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	default:
		return metav1.DeletePropagationBackground
	}
}

// groupOf is the group of an owner reference.
func groupOf(ref metav1.OwnerReference) string {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return ""
	}
	return gv.Group
}
