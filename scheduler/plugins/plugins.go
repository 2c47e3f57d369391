// Package plugins is the ordered list of what decides where a pod goes, and makes profiles from it: the default one, and
// those that a KubeSchedulerConfiguration describes by enabling, disabling, weighing and configuring.
package plugins

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"hardway/scheduler/devices"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins/defaultbinder"
	"hardway/scheduler/plugins/defaultpreemption"
	"hardway/scheduler/plugins/dynamicresources"
	"hardway/scheduler/plugins/imagelocality"
	"hardway/scheduler/plugins/interpodaffinity"
	"hardway/scheduler/plugins/nodeaffinity"
	"hardway/scheduler/plugins/nodedeclaredfeatures"
	"hardway/scheduler/plugins/nodename"
	"hardway/scheduler/plugins/nodeports"
	"hardway/scheduler/plugins/noderesources"
	"hardway/scheduler/plugins/nodeunschedulable"
	"hardway/scheduler/plugins/nodevolumelimits"
	"hardway/scheduler/plugins/podtopologyspread"
	"hardway/scheduler/plugins/prioritysort"
	"hardway/scheduler/plugins/schedulinggates"
	"hardway/scheduler/plugins/tainttoleration"
	"hardway/scheduler/plugins/volumebinding"
	"hardway/scheduler/plugins/volumerestrictions"
	"hardway/scheduler/plugins/volumezone"
	"hardway/shared/client"
)

// Needs is what plugins are made from.
type Needs struct {
	Columns *framework.Columns
	API     *client.API
	Budgets func(namespace string) []*policyv1.PodDisruptionBudget
	Writer  volumebinding.Writer
	Devices *devices.Inventory
	Claims  dynamicresources.Writer
	Ignored []string // extended resources that are left to extenders
	// Consult is DefaultPreemption's; nil: nobody has a say.
	Consult func(p *framework.Pod, ways []*framework.Eviction) ([]*framework.Eviction, error)
}

// entry is one plugin.
type entry struct {
	name   string
	weight int64 // when it ranks nodes and nothing else is configured
	make   func(n *Needs, a *args) (framework.Plugin, error)
}

// all are the plugins in the order in which they are asked, upstream's, with upstream's weights. The cheap filters come
// before the dear ones.
var all = []entry{
	{"SchedulingGates", 0, plain(schedulinggates.Plugin{})},
	{"PrioritySort", 0, plain(prioritysort.Plugin{})},
	{"NodeUnschedulable", 0, plain(nodeunschedulable.Plugin{})},
	{"NodeName", 0, plain(nodename.Plugin{})},
	{"TaintToleration", 3, plain(tainttoleration.Plugin{})},
	{"NodeAffinity", 2, func(_ *Needs, a *args) (framework.Plugin, error) {
		var given schedulerv1.NodeAffinityArgs
		if err := a.read(&given); err != nil {
			return nil, err
		}
		return nodeaffinity.New(given.AddedAffinity)
	}},
	{"NodePorts", 0, plain(nodeports.Plugin{})},
	{"NodeResourcesFit", 1, func(n *Needs, a *args) (framework.Plugin, error) {
		given := noderesources.DefaultFitArgs()
		if err := a.read(given); err != nil {
			return nil, err
		}
		given.IgnoredResources = append(given.IgnoredResources, n.Ignored...)
		return noderesources.NewFit(n.Columns, given)
	}},
	{"VolumeRestrictions", 0, plain(volumerestrictions.Plugin{})},
	{"NodeVolumeLimits", 0, plain(nodevolumelimits.Plugin{})},
	{"VolumeBinding", 0, func(n *Needs, a *args) (framework.Plugin, error) { return binding(n, a) }},
	{"VolumeZone", 0, plain(volumezone.Plugin{})},
	{"DynamicResources", 2, func(n *Needs, a *args) (framework.Plugin, error) { return dynamic(n, a) }},
	{"PodTopologySpread", 2, func(_ *Needs, a *args) (framework.Plugin, error) { return spread(a) }},
	{"InterPodAffinity", 2, func(_ *Needs, a *args) (framework.Plugin, error) { return affinity(a) }},
	{"DefaultPreemption", 0, func(n *Needs, a *args) (framework.Plugin, error) { return preemption(n, a) }},
	{"NodeResourcesBalancedAllocation", 1, func(n *Needs, a *args) (framework.Plugin, error) {
		given := noderesources.DefaultBalancedArgs()
		if err := a.read(given); err != nil {
			return nil, err
		}
		return noderesources.NewBalanced(n.Columns, given), nil
	}},
	{"ImageLocality", 1, plain(imagelocality.Plugin{})},
	{"DefaultBinder", 0, func(n *Needs, _ *args) (framework.Plugin, error) { return defaultbinder.Plugin{API: n.API}, nil }},
	{"NodeDeclaredFeatures", 0, plain(nodedeclaredfeatures.Plugin{})},
}

func plain(p framework.Plugin) func(*Needs, *args) (framework.Plugin, error) {
	return func(*Needs, *args) (framework.Plugin, error) { return p, nil }
}

// Default makes the profile of a scheduler name that nothing is configured for.
func Default(scheduler string, needs *Needs) *framework.Profile {
	p, err := New(&schedulerv1.KubeSchedulerProfile{SchedulerName: &scheduler}, needs)
	if err != nil { // the defaults are always right
		panic(err)
	}
	return p
}

func spread(a *args) (framework.Plugin, error) {
	given := schedulerv1.PodTopologySpreadArgs{DefaultingType: schedulerv1.SystemDefaulting}
	if err := a.read(&given); err != nil {
		return nil, err
	}
	switch {
	case given.DefaultingType == schedulerv1.ListDefaulting && given.DefaultConstraints == nil:
		return podtopologyspread.New(noConstraints), nil
	case given.DefaultingType == schedulerv1.ListDefaulting:
		return podtopologyspread.New(given.DefaultConstraints), nil
	case given.DefaultingType != schedulerv1.SystemDefaulting:
		return nil, a.wrong("defaultingType: %q is not known", given.DefaultingType)
	case len(given.DefaultConstraints) > 0:
		return nil, a.wrong("defaultConstraints: need defaultingType List")
	}
	return podtopologyspread.New(nil), nil
}

func affinity(a *args) (framework.Plugin, error) {
	one := int32(1)
	given := schedulerv1.InterPodAffinityArgs{HardPodAffinityWeight: &one}
	if err := a.read(&given); err != nil {
		return nil, err
	}
	hard := *given.HardPodAffinityWeight
	if hard < 0 || hard > 100 {
		return nil, a.wrong("hardPodAffinityWeight: %d is not in 0..100", hard)
	}
	return interpodaffinity.Plugin{Hard: int64(hard), IgnorePreferred: given.IgnorePreferredTermsOfExistingPods}, nil
}

func binding(n *Needs, a *args) (framework.Plugin, error) {
	seconds := int64(600)
	given := schedulerv1.VolumeBindingArgs{BindTimeoutSeconds: &seconds}
	if err := a.read(&given); err != nil {
		return nil, err
	}
	switch {
	case *given.BindTimeoutSeconds < 0:
		return nil, a.wrong("bindTimeoutSeconds: %d is negative", *given.BindTimeoutSeconds)
	case len(given.Shape) > 0:
		return nil, a.wrong("shape: ranking nodes by their storage capacity is not supported")
	}
	return &volumebinding.Plugin{Writer: n.Writer, Patience: time.Duration(*given.BindTimeoutSeconds) * time.Second}, nil
}

func dynamic(n *Needs, a *args) (framework.Plugin, error) {
	given := schedulerv1.DynamicResourcesArgs{BindingTimeout: &metav1.Duration{Duration: 10 * time.Minute}}
	if err := a.read(&given); err != nil {
		return nil, err
	}
	if given.BindingTimeout.Duration < time.Second {
		return nil, a.wrong("bindingTimeout: %s is less than a second", given.BindingTimeout.Duration)
	}
	// filterTimeout has no meaning: a search ends after a number of steps, which is the same on every machine.
	inventory := n.Devices
	if inventory == nil {
		inventory = devices.New()
	}
	return &dynamicresources.Plugin{Devices: inventory, Writer: n.Claims, Patience: given.BindingTimeout.Duration, Now: time.Now}, nil
}

func preemption(n *Needs, a *args) (framework.Plugin, error) {
	ten, hundred := int32(10), int32(100)
	given := schedulerv1.DefaultPreemptionArgs{MinCandidateNodesPercentage: &ten, MinCandidateNodesAbsolute: &hundred}
	if err := a.read(&given); err != nil {
		return nil, err
	}
	percentage, atLeast := *given.MinCandidateNodesPercentage, *given.MinCandidateNodesAbsolute
	if percentage < 0 || percentage > 100 || atLeast < 0 || percentage+atLeast == 0 {
		return nil, a.wrong("minCandidateNodesPercentage %d and minCandidateNodesAbsolute %d leave no candidates", percentage, atLeast)
	}
	return &defaultpreemption.Plugin{Percentage: int(percentage), AtLeast: int(atLeast), Budgets: n.Budgets, Consult: n.Consult}, nil
}
