// Package namespace empties namespaces that are being deleted and lets them go.
//
// Reads namespaces and, by discovery, every kind that can be listed and deleted in a namespace; deletes all of it, pods
// first, reports in the namespace's conditions what is left and what holds it, and removes the finalizer "kubernetes"
// through the subresource finalize when nothing is. A group whose server does not answer blocks the namespace, and its
// condition says so: what it holds is not known.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"hardway/controllers/cleanup/resources"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// atOnce is how many kinds of one namespace are deleted at a time.
const atOnce = 8

// Controller empties namespaces.
type Controller struct {
	env        control.Env
	log        *zap.Logger
	namespaces *client.Informer[corev1.Namespace]
	objects    metadata.Interface
	finder     *resources.Finder
	queue      *control.Queue

	mu     sync.Mutex     // guards passes
	passes map[string]int // passes over a namespace that is still not empty
}

// New makes the controller and has its caches filled.
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
	c := &Controller{env: env, log: env.Log.Named("namespace"), namespaces: env.Namespaces(), objects: objects, finder: finder, passes: map[string]int{}}
	c.queue = env.Queue("namespace", env.Config.WorkersFor("concurrent-namespace-syncs"), c.reconcile)
	c.namespaces.OnChange(func(old, now *corev1.Namespace) {
		switch {
		case now == nil:
			c.forget(old.Name)
		case now.DeletionTimestamp != nil:
			c.queue.Add(reconcile.Key{Name: now.Name})
		}
	})
	pods := env.Pods()
	pods.OnChange(func(old, now *corev1.Pod) {
		if now == nil && old.DeletionTimestamp != nil { // perhaps the last one that a namespace waits for
			if ns, ok := c.namespaces.Get("", old.Namespace); ok && ns.DeletionTimestamp != nil && !hasPods(pods, ns.Name) {
				c.queue.Add(reconcile.Key{Name: ns.Name})
			}
		}
	})
	return c, nil
}

func hasPods(pods control.Pods, namespace string) bool {
	for range pods.InNamespace(namespace) {
		return true
	}
	return false
}

// Run empties namespaces until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		for ns := range c.namespaces.All() {
			if ns.DeletionTimestamp != nil {
				c.queue.Add(reconcile.Key{Name: ns.Name})
			}
		}
	})
}

func (c *Controller) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.passes, name)
}

// pass counts the passes over a namespace.
func (c *Controller) pass(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passes[name]++
	return c.passes[name] - 1
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	ns, ok := c.namespaces.Get("", key.Name)
	if !ok || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return reconcile.Result{}, nil
	}
	t := c.empty(ctx, ns.Name)
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if t.empty() {
		return reconcile.Result{}, c.finalize(ctx, ns)
	}
	if err := c.report(ctx, ns, t); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: pause(c.pass(ns.Name))}, nil
}

// empty makes one pass: pods, and when none is left everything else.
func (c *Controller) empty(ctx context.Context, namespace string) tally {
	var t tally
	set, err := c.finder.Find(ctx)
	if err != nil {
		t.asking = err
		return t
	}
	t.missing = set.Missing
	pods, others := deletable(set)
	t.left = c.removeAll(ctx, namespace, pods)
	if t.holds() {
		return t
	}
	t.left = append(t.left, c.removeAll(ctx, namespace, others)...)
	return t
}

// removeAll removes all objects of the resources, several resources at a time.
func (c *Controller) removeAll(ctx context.Context, namespace string, list []resources.Resource) []remains {
	out := make([]remains, len(list))
	limit := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, r := range list {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			out[i] = c.remove(ctx, namespace, r)
		})
	}
	wg.Wait()
	return out
}

// remove deletes the objects of one resource and tells what is left. A resource without objects costs one request.
func (c *Controller) remove(ctx context.Context, namespace string, r resources.Resource) remains {
	out := remains{resource: r.GroupResource()}
	objects := c.objects.Resource(r.GroupVersionResource).Namespace(namespace)
	list, err := objects.List(ctx, metav1.ListOptions{})
	if err != nil {
		out.err = unless(err, unserved, "list %s in %s: %w", out.resource, namespace, err)
		return out
	}
	if len(list.Items) == 0 {
		return out
	}
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	if r.Can("deletecollection") {
		err = objects.DeleteCollection(ctx, background, metav1.ListOptions{})
	} else {
		for i := range list.Items {
			err = errors.Join(err, control.Gone(objects.Delete(ctx, list.Items[i].Name, background)))
		}
	}
	if err != nil {
		out.err = unless(err, unserved, "delete %s in %s: %w", out.resource, namespace, err)
	}
	if list, err = objects.List(ctx, metav1.ListOptions{}); err != nil {
		out.err = errors.Join(out.err, fmt.Errorf("list what is left of %s in %s: %w", out.resource, namespace, err))
		return out
	}
	out.count = len(list.Items)
	for i := range list.Items {
		for _, f := range list.Items[i].Finalizers {
			if out.finalizers == nil {
				out.finalizers = map[string]int{}
			}
			out.finalizers[f]++
		}
	}
	return out
}

// unserved reports whether the server knows the resource no more, or not for this verb: there is nothing to delete
// then.
func unserved(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}

func unless(err error, fine func(error) bool, format string, args ...any) error {
	if fine(err) {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// report writes the conditions if they changed.
func (c *Controller) report(ctx context.Context, ns *corev1.Namespace, t tally) error {
	status, changed := withConditions(ns.Status, t.conditions(), time.Now())
	if !changed {
		return nil
	}
	out := *ns
	out.Status = status
	if _, err := client.Namespaces.Update(ctx, c.env.API, &out, "status"); control.Gone(err) != nil {
		return fmt.Errorf("report what is left in namespace %s: %w", ns.Name, err)
	}
	return nil
}

// finalize lets the namespace go.
func (c *Controller) finalize(ctx context.Context, ns *corev1.Namespace) error {
	out := ns.DeepCopy()
	out.Spec.Finalizers = slices.DeleteFunc(out.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if _, err := client.Namespaces.Update(ctx, c.env.API, out, "finalize"); control.Gone(err) != nil {
		return fmt.Errorf("finalize namespace %s: %w", ns.Name, err)
	}
	c.log.Info("namespace is empty and gone", zap.String("namespace", ns.Name))
	return nil
}
