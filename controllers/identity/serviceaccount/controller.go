// Package serviceaccount sees to it that every namespace has the ServiceAccount "default", without which no pod can be
// created in it.
//
// Reads namespaces and ServiceAccounts; creates ServiceAccounts.
package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// account is the name of the ServiceAccount that every namespace has.
const account = "default"

// Controller makes the accounts.
type Controller struct {
	env        control.Env
	namespaces *client.Informer[corev1.Namespace]
	accounts   *client.Informer[corev1.ServiceAccount]
	queue      *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, namespaces: env.Namespaces(), accounts: client.ServiceAccounts.Informer(env.Informers, client.Options{})}
	c.queue = env.Queue("serviceaccount", 4, c.reconcile)
	c.namespaces.OnChange(func(_, now *corev1.Namespace) {
		if now != nil {
			c.queue.Add(reconcile.Key{Name: now.Name})
		}
	})
	c.accounts.OnChange(func(old, now *corev1.ServiceAccount) {
		if now == nil && old.Name == account {
			c.queue.Add(reconcile.Key{Name: old.Namespace})
		}
	})
	return c, nil
}

// Run makes accounts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.namespaces.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	ns, ok := c.namespaces.Get("", key.Name)
	if !ok || ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	if _, ok := c.accounts.Get(ns.Name, account); ok {
		return reconcile.Result{}, nil
	}
	_, err := client.ServiceAccounts.Create(ctx, c.env.API, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: account}})
	if err != nil && !apierrors.IsAlreadyExists(err) && !control.Ending(err) && control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("create ServiceAccount %s/%s: %w", ns.Name, account, err)
	}
	return reconcile.Result{}, nil
}
