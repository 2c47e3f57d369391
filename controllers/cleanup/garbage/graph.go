package garbage

import (
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/cleanup/resources"
)

// graph knows every object by its uid and who owns whom. It is built from watches of metadata; one lock guards all of
// it. Its methods return the uids that have to be looked at again because of what changed.
//
// An object may be in one of three states. Observed: a watch shows it. Supposed: an owner reference names it and no
// watch has shown it, or a list came back without it; only a direct read tells whether it exists. Gone: a watch said
// that it was deleted, or a direct read did not find it; as uids are never used again this is final. Supposed and gone
// objects stay only as long as something names them as owner.
type graph struct {
	mu    sync.Mutex
	nodes map[types.UID]*node
}

type state uint8

const (
	supposed state = iota
	observed
	gone
)

type node struct {
	uid        types.UID
	resource   *resources.Resource // nil when supposed
	namespace  string
	name       string
	version    string // resourceVersion when last seen
	state      state
	owners     []metav1.OwnerReference
	dependents map[*node]struct{}
	deleting   bool
	finalizers []string  // kept only while deleting
	since      time.Time // when a supposed object was first named
}

func newGraph() *graph {
	return &graph{nodes: map[types.UID]*node{}}
}

// waitsFor reports whether the object is being deleted and keeps the finalizer.
func (n *node) waitsFor(finalizer string) bool {
	return n.deleting && slices.Contains(n.finalizers, finalizer)
}

// observe takes in the object as a watch or a direct read shows it. An older version than the one that is known changes
// nothing.
func (g *graph) observe(r *resources.Resource, obj metav1.Object) (look []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[obj.GetUID()]
	if n == nil {
		n = &node{uid: obj.GetUID()}
		g.nodes[n.uid] = n
	}
	if n.state == gone || (n.state == observed && olderVersion(obj.GetResourceVersion(), n.version)) {
		return nil
	}
	if n.state != observed {
		for d := range n.dependents { // they may have named it by a wrong place or kind
			look = append(look, d.uid)
		}
	}
	n.state, n.resource, n.namespace, n.name, n.version = observed, r, obj.GetNamespace(), obj.GetName(), obj.GetResourceVersion()
	look = append(look, g.relink(n, obj.GetOwnerReferences())...)
	foreground, orphan := n.waitsFor(metav1.FinalizerDeleteDependents), n.waitsFor(metav1.FinalizerOrphanDependents)
	n.deleting, n.finalizers = obj.GetDeletionTimestamp() != nil, nil
	if n.deleting {
		n.finalizers = slices.Clone(obj.GetFinalizers())
	}
	if n.waitsFor(metav1.FinalizerDeleteDependents) && !foreground {
		look = append(look, n.uid)
		for d := range n.dependents {
			look = append(look, d.uid)
		}
	}
	if n.waitsFor(metav1.FinalizerOrphanDependents) && !orphan {
		look = append(look, n.uid)
	}
	return look
}

// relink makes the owners of a node those of refs.
func (g *graph) relink(n *node, refs []metav1.OwnerReference) (look []types.UID) {
	if slices.EqualFunc(n.owners, refs, sameRef) {
		return nil
	}
	before := n.owners
	n.owners = nil
	if len(refs) > 0 {
		n.owners = slices.Clone(refs)
	}
	for _, old := range before {
		owner := g.nodes[old.UID]
		if owner == nil {
			continue
		}
		if !slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool { return r.UID == old.UID }) {
			delete(owner.dependents, n)
			g.tidy(owner)
		}
		if owner.waitsFor(metav1.FinalizerDeleteDependents) {
			look = append(look, owner.uid)
		}
	}
	for _, ref := range refs {
		owner := g.nodes[ref.UID]
		if owner == nil {
			owner = &node{uid: ref.UID, namespace: n.namespace, name: ref.Name, since: time.Now()}
			g.nodes[ref.UID] = owner
		}
		if owner.dependents == nil {
			owner.dependents = map[*node]struct{}{}
		}
		owner.dependents[n] = struct{}{}
		if owner.state != observed || owner.waitsFor(metav1.FinalizerDeleteDependents) || misplaced(n, owner, ref) {
			look = append(look, n.uid)
		}
	}
	return look
}

// remove takes the object out. certain means that it is known to be deleted; otherwise a list merely lacked it, and it
// is only supposed to exist until somebody asks.
func (g *graph) remove(uid types.UID, certain bool) (look []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return nil
	}
	for _, ref := range n.owners {
		if owner := g.nodes[ref.UID]; owner != nil {
			delete(owner.dependents, n)
			if owner.waitsFor(metav1.FinalizerDeleteDependents) {
				look = append(look, owner.uid)
			}
			g.tidy(owner)
		}
	}
	for d := range n.dependents {
		look = append(look, d.uid)
	}
	n.owners, n.deleting, n.finalizers = nil, false, nil
	n.state = supposed
	if certain {
		n.state = gone
	}
	g.tidy(n)
	return look
}

// tidy drops a node that no watch shows and nothing names.
func (g *graph) tidy(n *node) {
	if n.state != observed && len(n.dependents) == 0 {
		delete(g.nodes, n.uid)
	}
}

// uids returns the observed objects of a resource.
func (g *graph) uids(r schema.GroupResource) map[types.UID]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[types.UID]bool{}
	for uid, n := range g.nodes {
		if n.state == observed && n.resource.GroupResource() == r {
			out[uid] = true
		}
	}
	return out
}

// supposedDependents returns the objects with an owner that only a direct read can tell about.
func (g *graph) supposedDependents() (look []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.nodes {
		if n.state != supposed {
			continue
		}
		for d := range n.dependents {
			look = append(look, d.uid)
		}
	}
	return look
}

// size is the number of objects known.
func (g *graph) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.nodes)
}

func sameRef(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && a.Name == b.Name && a.Kind == b.Kind && a.APIVersion == b.APIVersion && blocks(a) == blocks(b)
}

func blocks(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

// misplaced reports whether the reference names its owner by another place, kind or name than the owner really has.
func misplaced(n, owner *node, ref metav1.OwnerReference) bool {
	if owner.state != observed {
		return false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err != nil || gv.Group != owner.resource.Group || ref.Kind != owner.resource.Kind || ref.Name != owner.name ||
		(owner.resource.Namespaced && owner.namespace != n.namespace)
}

// olderVersion compares resource versions, which are numbers; those that are not are taken as newer.
func olderVersion(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b) && isNumber(a) && isNumber(b)
	}
	return a < b && isNumber(a) && isNumber(b)
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// everyDependent returns the objects that have owners or wait for dependents: where a term starts.
func (g *graph) everyDependent() (look []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for uid, n := range g.nodes {
		if n.state == observed && (len(n.owners) > 0 || len(n.finalizers) > 0) {
			look = append(look, uid)
		}
	}
	return look
}

// elsewhere reports whether the object lives, in another place than somebody looked.
func (g *graph) elsewhere(uid types.UID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	return n != nil && n.state == observed
}
