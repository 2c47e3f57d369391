package extender

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hardway/scheduler/framework"
)

// PodsOn are the pods on a node.
type PodsOn func(node string) []*framework.Pod

// Preempt asks the extenders with a preemptVerb, one after the other, which ways of making room for a pod will do. Each may drop nodes, and
// name other pods of a node as its victims.
func Preempt(ctx context.Context, list []*Extender, p *framework.Pod, ways []*framework.Eviction, on PodsOn) ([]*framework.Eviction, error) {
	for _, e := range list {
		if e.of.PreemptVerb == "" || !e.concerns(p.Pod) || len(ways) == 0 {
			continue
		}
		left, err := e.preempt(ctx, p.Pod, ways, on)
		switch {
		case err == nil:
			ways = left
		case e.of.Ignorable:
			e.log.Warn("left out an extender that failed", zap.String("extender", e.url), zap.Error(err))
		default:
			return nil, fmt.Errorf("extender %s: preempt: %w", e.url, err)
		}
	}
	return ways, nil
}

func (e *Extender) preempt(ctx context.Context, p *corev1.Pod, ways []*framework.Eviction, on PodsOn) (left []*framework.Eviction, err error) {
	var answer extenderv1.ExtenderPreemptionResult
	if err := e.call(ctx, e.of.PreemptVerb, e.proposal(p, ways), &answer); err != nil {
		return nil, err
	}
	for _, way := range ways {
		say, ok := answer.NodeNameToMetaVictims[way.Node]
		delete(answer.NodeNameToMetaVictims, way.Node)
		if !ok {
			continue
		}
		if say == nil || len(say.Pods) == 0 {
			if e.of.Ignorable {
				continue
			}
			return nil, fmt.Errorf("no victims on node %s", way.Node)
		}
		victims, err := find(say.Pods, on(way.Node))
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", way.Node, err)
		}
		left = append(left, &framework.Eviction{Node: way.Node, Victims: victims, Violations: int(say.NumPDBViolations), Outranked: way.Outranked})
	}
	for name := range answer.NodeNameToMetaVictims {
		return nil, fmt.Errorf("node %s was not asked about", name)
	}
	return left, nil
}

// proposal is the ways as the extender wants them: pods by uid when it knows them itself.
func (e *Extender) proposal(p *corev1.Pod, ways []*framework.Eviction) *extenderv1.ExtenderPreemptionArgs {
	args := &extenderv1.ExtenderPreemptionArgs{Pod: p}
	if e.of.NodeCacheCapable {
		args.NodeNameToMetaVictims = make(map[string]*extenderv1.MetaVictims, len(ways))
	} else {
		args.NodeNameToVictims = make(map[string]*extenderv1.Victims, len(ways))
	}
	for _, way := range ways {
		if e.of.NodeCacheCapable {
			of := &extenderv1.MetaVictims{NumPDBViolations: int64(way.Violations)}
			for _, v := range way.Victims {
				of.Pods = append(of.Pods, &extenderv1.MetaPod{UID: string(v.UID)})
			}
			args.NodeNameToMetaVictims[way.Node] = of
			continue
		}
		of := &extenderv1.Victims{NumPDBViolations: int64(way.Violations)}
		for _, v := range way.Victims {
			of.Pods = append(of.Pods, v.Pod)
		}
		args.NodeNameToVictims[way.Node] = of
	}
	return args
}

// find returns the pods that are named by their uids.
func find(named []*extenderv1.MetaPod, pods []*framework.Pod) (out []*framework.Pod, err error) {
	for _, m := range named {
		i := slices.IndexFunc(pods, func(o *framework.Pod) bool { return m != nil && string(o.UID) == m.UID })
		if i < 0 {
			return nil, fmt.Errorf("there is no pod with the uid of victim %v", m)
		}
		out = append(out, pods[i])
	}
	return out, nil
}
