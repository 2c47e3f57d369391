// Package garbage deletes objects whose owners are gone, and carries out deletions in the foreground and those that
// orphan.
//
// Reads the metadata of every kind that can be listed, watched and deleted, found by discovery (Events excepted);
// deletes objects and changes their owner references and finalizers. The graph (graph.go) is fed by watches, the
// decision about one object is pure (plan.go).
//
// Nothing is deleted on doubt: an owner counts as gone only when a watch has said that it was deleted or a direct read
// has not found it; a deletion carries uid and resource version of what was judged. An owner in another namespace than
// its dependent does not exist for it; an object outside of namespaces that names an owner inside of one is never
// deleted for that. Both get a warning Event.
package garbage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"hardway/controllers/cleanup/resources"
	"hardway/controllers/control"
	"hardway/shared/reconcile"
)

// Controller collects garbage.
type Controller struct {
	env     control.Env
	log     *zap.Logger
	objects metadata.Interface
	finder  *resources.Finder
	graph   *graph
	queue   *control.Queue
	refresh chan struct{} // holds at most one wish to ask discovery again

	mu       sync.Mutex // guards known and monitors
	known    resources.Set
	monitors map[schema.GroupVersionResource]*monitor
}

// rediscover is how often discovery is asked when nothing suggests that it changed.
const rediscover = 5 * time.Minute

// New makes the controller.
func New(env control.Env) (control.Runner, error) {
	cfg := env.API.Config()
	objects, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), env.API.HTTP())
	if err != nil {
		return nil, fmt.Errorf("make a client for metadata: %w", err)
	}
	finder, err := resources.NewFinder(cfg)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		env: env, log: env.Log.Named("garbage"), objects: objects, finder: finder, graph: newGraph(),
		refresh: make(chan struct{}, 1), monitors: map[schema.GroupVersionResource]*monitor{},
	}
	c.queue = env.Queue("garbage_collector", env.Config.WorkersFor("concurrent-gc-syncs"), c.reconcile)
	return c, nil
}

// Run collects until ctx ends. The graph is built anew for each term: on a standby it would cost a watch of everything.
// Objects are judged only when all watches have shown what there is.
func (c *Controller) Run(ctx context.Context) error {
	c.graph = newGraph()
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	defer c.endMonitors()
	for !c.discover(ctx) {
		if !pause(ctx, time.Second) {
			return nil
		}
	}
	c.waitForMonitors(ctx)
	wg.Go(func() { c.keepDiscovering(ctx) })
	return c.queue.Run(ctx, func() { c.look(c.graph.everyDependent()) })
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// keepDiscovering starts and ends watches as kinds come and go.
func (c *Controller) keepDiscovering(ctx context.Context) {
	tick := time.NewTicker(rediscover)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.refresh:
			if !pause(ctx, 200*time.Millisecond) { // kinds come in groups
				return
			}
		}
		if c.discover(ctx) {
			c.look(c.graph.supposedDependents())
		}
	}
}

// discover makes the watches those of the kinds that the server serves now.
func (c *Controller) discover(ctx context.Context) bool {
	set, err := c.finder.Find(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("cannot learn which kinds there are, trying again", zap.Error(err))
		}
		return false
	}
	wanted := map[schema.GroupVersionResource]bool{}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = set
	for _, r := range set.All {
		if !watched(r) {
			continue
		}
		wanted[r.GroupVersionResource] = true
		if c.monitors[r.GroupVersionResource] == nil {
			c.monitors[r.GroupVersionResource] = startMonitor(ctx, c.objects, r, c.graph, c.lookFor(r))
		}
	}
	for gvr, m := range c.monitors {
		// A group whose server is silent for the moment keeps its watches.
		if !wanted[gvr] && !slices.ContainsFunc(set.Missing, func(gv schema.GroupVersion) bool { return gv.Group == gvr.Group }) {
			m.end()
			delete(c.monitors, gvr)
		}
	}
	return true
}

// watched reports whether objects of the resource take part: Events are too many and own nothing.
func watched(r resources.Resource) bool {
	return r.Can("list", "watch", "delete") && r.Resource != "events"
}

// lookFor is look, and for resources that define kinds also the wish to learn about them.
func (c *Controller) lookFor(r resources.Resource) func([]types.UID) {
	if r.Resource != "customresourcedefinitions" && r.Resource != "apiservices" {
		return c.look
	}
	return func(uids []types.UID) {
		select {
		case c.refresh <- struct{}{}:
		default: // one wish is enough
		}
		c.look(uids)
	}
}

func (c *Controller) waitForMonitors(ctx context.Context) {
	waiting, stop := context.WithTimeout(ctx, waitTime)
	defer stop()
	c.mu.Lock()
	var list []*monitor
	for _, m := range c.monitors {
		list = append(list, m)
	}
	c.mu.Unlock()
	for _, m := range list {
		select {
		case <-m.synced:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return
			}
			c.log.Warn("starting without having seen all objects", zap.Stringer("resource", m.resource.GroupVersionResource))
		}
	}
}

func (c *Controller) endMonitors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for gvr, m := range c.monitors {
		m.end()
		delete(c.monitors, gvr)
	}
}

// look has objects looked at.
func (c *Controller) look(uids []types.UID) {
	for _, uid := range uids {
		c.queue.Add(reconcile.Key{Name: string(uid)})
	}
}

// namespaced tells whether the kind of an owner reference lives in namespaces.
func (c *Controller) namespaced(ref metav1.OwnerReference) (yes, known bool) {
	r, ok := c.resourceOf(ref)
	return r.Namespaced, ok
}

func (c *Controller) resourceOf(ref metav1.OwnerReference) (resources.Resource, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.ByKind(groupOf(ref), ref.Kind)
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	uid := types.UID(key.Name)
	v, ok := c.graph.see(uid, c.namespaced, time.Now())
	if !ok {
		return reconcile.Result{}, nil
	}
	if !v.deleting {
		if unknown, err := c.ask(ctx, &v); err != nil {
			return reconcile.Result{}, err
		} else if unknown {
			return reconcile.Result{}, nil // of a kind that is not served: when it is, the object is looked at again
		}
	}
	return c.apply(ctx, v, makePlan(v))
}

// ask replaces doubt about owners by what the server says. unknown is true when an owner is of a kind that is not
// served: its dependents stay.
func (c *Controller) ask(ctx context.Context, v *view) (unknown bool, err error) {
	for i := range v.owners {
		o := &v.owners[i]
		switch o.standing {
		case unusable:
			c.complain(v, o.ref, "refers to an owner in a namespace, which an object outside of namespaces cannot have")
			continue
		case unsure:
		default:
			continue
		}
		r, ok := c.resourceOf(o.ref)
		if !ok {
			unknown = true
			continue
		}
		if o.standing, err = c.exists(ctx, r, v, o.ref); err != nil {
			return false, err
		}
	}
	return unknown, nil
}

// exists reads the owner where the reference says that it is.
func (c *Controller) exists(ctx context.Context, r resources.Resource, v *view, ref metav1.OwnerReference) (standing, error) {
	namespace := ""
	if r.Namespaced {
		namespace = v.namespace
	}
	have, err := c.in(r, namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case err == nil && have.UID == ref.UID:
		c.look(c.graph.observe(&r, have))
		if have.DeletionTimestamp != nil && slices.Contains(have.Finalizers, metav1.FinalizerDeleteDependents) {
			return waiting, nil
		}
		return solid, nil
	case err == nil, apierrors.IsNotFound(err):
		if c.graph.elsewhere(ref.UID) {
			c.complain(v, ref, "does not exist in namespace "+v.namespace)
		} else {
			c.look(c.graph.remove(ref.UID, true))
		}
		return absent, nil
	default:
		return unsure, fmt.Errorf("look for owner %s %s of %s %s/%s: %w", ref.Kind, ref.Name, v.resource.Kind, v.namespace, v.name, err)
	}
}

// complain warns about a reference that crosses namespaces.
func (c *Controller) complain(v *view, ref metav1.OwnerReference, problem string) {
	object := &corev1.ObjectReference{
		Kind: v.resource.Kind, APIVersion: v.resource.GroupVersion().String(), Namespace: v.namespace, Name: v.name, UID: v.uid,
	}
	c.env.Events.Event(object, corev1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef [%s/%s, name: %s, uid: %s] %s",
		ref.APIVersion, ref.Kind, ref.Name, ref.UID, problem)
}

func (c *Controller) in(r resources.Resource, namespace string) metadata.ResourceInterface {
	if namespace == "" {
		return c.objects.Resource(r.GroupVersionResource)
	}
	return c.objects.Resource(r.GroupVersionResource).Namespace(namespace)
}

// apply carries a plan out.
func (c *Controller) apply(ctx context.Context, v view, p plan) (reconcile.Result, error) {
	var err error
	switch p.action {
	case nothing:
	case later:
		return reconcile.Result{RequeueAfter: settling}, nil
	case chase:
		c.look(p.chase)
	case remove:
		if p.unblock {
			if err := c.unblock(ctx, v); err != nil {
				return reconcile.Result{}, err
			}
		}
		err = c.remove(ctx, v, p.policy)
	case dropRefs:
		refs := make([]metav1.OwnerReference, 0, len(v.owners))
		for _, o := range v.owners {
			if !slices.Contains(p.drop, o.ref.UID) {
				refs = append(refs, o.ref)
			}
		}
		err = c.patch(ctx, v.object, v.version, map[string]any{"ownerReferences": refs})
	case finish:
		err = c.unfinalize(ctx, v, metav1.FinalizerDeleteDependents)
	case orphan:
		err = c.orphan(ctx, v)
	}
	if apierrors.IsConflict(err) {
		return reconcile.Result{}, c.renew(ctx, v)
	}
	return reconcile.Result{}, err
}

// remove deletes the object as it was judged.
func (c *Controller) remove(ctx context.Context, v view, policy metav1.DeletionPropagation) error {
	err := c.in(v.resource, v.namespace).Delete(ctx, v.name, metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &v.uid, ResourceVersion: &v.version},
	})
	if control.Gone(err) != nil {
		return fmt.Errorf("delete %s %s/%s, whose owners are gone: %w", v.resource.Kind, v.namespace, v.name, err)
	}
	c.log.Info("deleted object whose owners are gone", zap.String("kind", v.resource.Kind), zap.String("namespace", v.namespace),
		zap.String("name", v.name), zap.String("policy", string(policy)))
	return nil
}

// unblock makes the object's references to its owners stop blocking them.
func (c *Controller) unblock(ctx context.Context, v view) error {
	refs := make([]metav1.OwnerReference, 0, len(v.owners))
	for _, o := range v.owners {
		o.ref.BlockOwnerDeletion = new(false)
		refs = append(refs, o.ref)
	}
	return c.patch(ctx, v.object, "", map[string]any{"ownerReferences": refs})
}

// orphan takes the object off the owners of its dependents, then lets it go.
func (c *Controller) orphan(ctx context.Context, v view) error {
	var errs []error
	for _, d := range v.dependents {
		refs := slices.DeleteFunc(slices.Clone(d.refs), func(r metav1.OwnerReference) bool { return r.UID == v.uid })
		err := c.patch(ctx, d.object, d.version, map[string]any{"ownerReferences": refs})
		if apierrors.IsConflict(err) {
			err = c.renewObject(ctx, d.object)
			c.queue.Add(reconcile.Key{Name: string(v.uid)})
			if err == nil {
				err = errRenewed
			}
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		if errors.Is(err, errRenewed) && allRenewed(errs) {
			return nil // tried again at once, with what was just read
		}
		return fmt.Errorf("orphan the dependents of %s %s/%s: %w", v.resource.Kind, v.namespace, v.name, err)
	}
	return c.unfinalize(ctx, v, metav1.FinalizerOrphanDependents)
}

// errRenewed says that an object was changed meanwhile and has been read again.
var errRenewed = errors.New("read again")

func allRenewed(errs []error) bool {
	return !slices.ContainsFunc(errs, func(err error) bool { return err != nil && !errors.Is(err, errRenewed) })
}

func (c *Controller) unfinalize(ctx context.Context, v view, finalizer string) error {
	left := slices.DeleteFunc(slices.Clone(v.finalizers), func(f string) bool { return f == finalizer })
	return c.patch(ctx, v.object, v.version, map[string]any{"finalizers": left})
}

// patch changes metadata of an object, provided that it is still the one and, with a version, still in the state that
// was judged. An object that is gone is fine.
func (c *Controller) patch(ctx context.Context, o object, version string, meta map[string]any) error {
	r, namespace, name, uid := o.resource, o.namespace, o.name, o.uid
	meta["uid"] = uid
	if version != "" {
		meta["resourceVersion"] = version
	}
	data, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return fmt.Errorf("encode metadata of %s %s/%s: %w", r.Kind, namespace, name, err)
	}
	if _, err = c.in(r, namespace).Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{}); control.Gone(err) != nil {
		return fmt.Errorf("change metadata of %s %s/%s: %w", r.Kind, namespace, name, err)
	}
	return nil
}

// renew reads an object that was changed meanwhile, and has it looked at again.
func (c *Controller) renew(ctx context.Context, v view) error {
	if err := c.renewObject(ctx, v.object); err != nil {
		return err
	}
	c.queue.Add(reconcile.Key{Name: string(v.uid)})
	return nil
}

func (c *Controller) renewObject(ctx context.Context, o object) error {
	r, namespace, name, uid := o.resource, o.namespace, o.name, o.uid
	have, err := c.in(r, namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && have.UID != uid:
		c.look(c.graph.remove(uid, true))
		return nil
	case err != nil:
		return fmt.Errorf("read %s %s/%s again: %w", r.Kind, namespace, name, err)
	}
	c.look(c.graph.observe(&r, have))
	return nil
}
