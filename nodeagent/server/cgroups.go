package server

import (
	"context"
	"path"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"hardway/nodeagent/cgroup"
	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/runtime"
)

// treeEvery is how often the cgroups above the pods' are compared with what they should be.
const treeEvery = 10 * time.Second

// runCgroups keeps the tree above the pods: the root limits all pods together to what the node has for them, the class
// burstable weighs as much as its pods ask for, besteffort gets what is left over.
func (a *agent) runCgroups(ctx context.Context) error {
	tick := time.NewTicker(treeEvery)
	defer tick.Stop()
	have := map[string]runtime.Resources{}
	for {
		for name, want := range a.tree() {
			if have[name] == want {
				continue
			}
			if err := cgroup.Ensure(name, want); err != nil {
				a.log.Warn("cgroup of all pods", zap.String("cgroup", name), zap.Error(err))
				continue
			}
			have[name] = want
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tree is what the cgroups above the pods' should be.
func (a *agent) tree() map[string]runtime.Resources {
	root := a.cfg.Kubelet.CgroupRoot
	out := map[string]runtime.Resources{path.Join(root, "besteffort"): {CPUShares: compose.Shares(0)}}
	var burstable int64
	for _, p := range a.workers.Pods() {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || fields.QOSClass(p.Pod) != corev1.PodQOSBurstable {
			continue
		}
		requests := resource.PodRequests(p.Pod, resource.PodResourcesOptions{})
		burstable += requests.Cpu().MilliValue()
	}
	out[path.Join(root, "burstable")] = runtime.Resources{CPUShares: compose.Shares(burstable)}
	if a.cfg.EnforcesPods() {
		reserved := a.cfg.Reserved()
		out[root] = runtime.Resources{
			CPUShares:   compose.Shares(max(a.machine.CPUs*1000-reserved.Cpu().MilliValue(), 0)),
			MemoryLimit: max(a.machine.Memory-reserved.Memory().Value(), 0),
		}
	}
	return out
}
