// Package aggregation fills in the rules of cluster roles that are put together from others: those whose aggregationRule
// selects the labels of further cluster roles, as admin, edit and view do.
//
// Reads and updates ClusterRoles. A role that aggregates is looked at whenever any cluster role changes.
package aggregation

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Controller fills in rules.
type Controller struct {
	env   control.Env
	roles *client.Informer[rbacv1.ClusterRole]
	queue *control.Queue
}

// New makes the controller and has its cache filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, roles: client.ClusterRoles.Informer(env.Informers, client.Options{})}
	c.queue = env.Queue("ClusterRoleAggregator", 2, c.reconcile)
	c.roles.OnChange(func(_, _ *rbacv1.ClusterRole) {
		for r := range c.roles.All() {
			if r.AggregationRule != nil {
				c.queue.Add(reconcile.Key{Name: r.Name})
			}
		}
	})
	return c, nil
}

// Run fills in rules until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.roles.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	role, ok := c.roles.Get("", key.Name)
	if !ok || role.AggregationRule == nil || role.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	rules, err := plan(role, slices.Collect(c.roles.All()))
	if err != nil || equality.Semantic.DeepEqual(rules, role.Rules) {
		return reconcile.Result{}, err
	}
	wanted := role.DeepCopy()
	wanted.Rules = rules
	if _, err := client.ClusterRoles.Update(ctx, c.env.API, wanted); err != nil && !control.Ending(err) && control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("put together ClusterRole %s: %w", role.Name, err)
	}
	return reconcile.Result{}, nil
}
