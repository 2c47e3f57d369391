// Package ipam gives each node a part of the cluster's range for the addresses of its pods.
//
// Reads nodes; writes spec.podCIDR and spec.podCIDRs of nodes that have none. Nothing is remembered but in the nodes
// themselves: at the start of a term the pools are filled from all nodes, so a restart never gives a range away twice.
// A range is never changed once a node has it; ranges outside of the configured ones are left alone.
package ipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/config"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Needs says that the configuration does not ask for ranges.
func Needs(c config.Config) string {
	if !c.AllocateNodeCIDRs {
		return "--allocate-node-cidrs is not set"
	}
	return ""
}

// Controller hands out ranges.
type Controller struct {
	env   control.Env
	log   *zap.Logger
	nodes *client.Informer[corev1.Node]
	queue *control.Queue

	mu    sync.Mutex                // guards pools and held
	pools []*pool                   // one for each family
	held  map[string][]netip.Prefix // what each node holds, by name
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{env: env, log: env.Log.Named("ipam"), nodes: env.Nodes()}
	if _, err := makePools(env.Config); err != nil {
		return nil, err
	}
	// One worker: ranges are given out one after the other, and what was given is remembered before the next.
	c.queue = env.Queue("node_ipam", 1, c.reconcile)
	c.nodes.OnChange(func(old, now *corev1.Node) {
		if now == nil {
			c.forget(old.Name)
			now = old
		}
		c.queue.Add(reconcile.Key{Name: now.Name})
	})
	return c, nil
}

// makePools makes the pools that the configuration asks for, without the Services' ranges.
func makePools(cfg config.Config) ([]*pool, error) {
	var pools []*pool
	for _, r := range config.Prefixes(cfg.ClusterCIDR) {
		p, err := newPool(r, cfg.MaskFor(r))
		if err != nil {
			return nil, fmt.Errorf("--cluster-cidr: %w", err)
		}
		for _, s := range config.Prefixes(cfg.ServiceCIDR) {
			p.occupy(s)
		}
		pools = append(pools, p)
	}
	return pools, nil
}

// Run hands out ranges until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		c.fill()
		control.Keys(c.queue, c.nodes.All())
	})
}

// fill makes the pools anew from what the nodes hold.
func (c *Controller) fill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	pools, err := makePools(c.env.Config)
	if err != nil {
		c.log.Error("cannot hand out ranges", zap.Error(err)) // New has checked that it works
		return
	}
	c.pools, c.held = pools, map[string][]netip.Prefix{}
	for node := range c.nodes.All() {
		c.note(node)
	}
}

// note marks what the node holds as used. The caller holds the lock.
func (c *Controller) note(node *corev1.Node) {
	ranges := config.Prefixes(rangesOf(node))
	for _, r := range ranges {
		for _, p := range c.pools {
			p.occupy(r)
		}
	}
	c.held[node.Name] = ranges
}

// forget gives the ranges of a node that is gone back to the pools.
func (c *Controller) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.held[name] {
		for _, p := range c.pools {
			if p.contains(r) {
				p.release(r)
			}
		}
	}
	delete(c.held, name)
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	node, ok := c.nodes.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if len(rangesOf(node)) > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.note(node)
		return reconcile.Result{}, nil
	}
	ranges, err := c.take(node.Name)
	if err != nil {
		c.env.Events.Event(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", node.Name)
		return reconcile.Result{}, err
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID}, "spec": map[string]any{"podCIDR": ranges[0], "podCIDRs": ranges},
	})
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("encode ranges of node %s: %w", node.Name, err)
	}
	if _, err := client.Nodes.Patch(ctx, c.env.API, "", node.Name, types.StrategicMergePatchType, patch); control.Gone(err) != nil {
		// Whether it was written is not known: the range stays taken, and is offered to the same node again.
		return reconcile.Result{}, fmt.Errorf("give node %s the ranges %v: %w", node.Name, ranges, err)
	}
	c.log.Info("gave node a range", zap.String("node", node.Name), zap.Strings("podCIDRs", ranges))
	return reconcile.Result{}, nil
}

// take returns the ranges that the node is to have: those that it was offered before, else new ones.
func (c *Controller) take(name string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.held[name]
	if len(have) == 0 {
		for _, p := range c.pools {
			r, ok := p.take()
			if !ok {
				for i, r := range have {
					c.pools[i].release(r)
				}
				return nil, fmt.Errorf("no range left for node %s in %v", name, p.base)
			}
			have = append(have, r)
		}
		c.held[name] = have
	}
	var out []string
	for _, r := range have {
		out = append(out, r.String())
	}
	return out, nil
}

func rangesOf(node *corev1.Node) []string {
	if len(node.Spec.PodCIDRs) > 0 {
		return node.Spec.PodCIDRs
	}
	if node.Spec.PodCIDR != "" {
		return []string{node.Spec.PodCIDR}
	}
	return nil
}
