// Package nodedeclaredfeatures refuses nodes that do not declare in their status that they can do what the pod needs of newer kubelets.
package nodedeclaredfeatures

import (
	"slices"

	ndf "k8s.io/component-helpers/nodedeclaredfeatures"

	"hardway/scheduler/framework"
)

const name = "NodeDeclaredFeatures"

var lacking = framework.No(framework.Unresolvable, name, "node(s) didn't match Pod's required features")

// Plugin is NodeDeclaredFeatures.
type Plugin struct{}

// Name implements framework.Plugin.
func (Plugin) Name() string { return name }

// PreFilter implements framework.PreFilter.
func (Plugin) PreFilter(_ *framework.View, p *framework.Pod) framework.Prepared {
	return framework.Prepared{Skip: p.Features.IsEmpty()}
}

// Filter implements framework.Filter.
func (Plugin) Filter(_ any, p *framework.Pod, n *framework.Node) *framework.Status {
	if has, err := p.Features.IsSubset(declared(n.Status.DeclaredFeatures)); !has || err != nil {
		return lacking
	}
	return nil
}

func declared(features []string) ndf.FeatureSet {
	if !slices.IsSorted(features) {
		features = slices.Sorted(slices.Values(features))
	}
	return ndf.DefaultFramework.TryMap(features)
}

// Heeds implements framework.Wakes.
func (Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged)
}

// Helps implements framework.Wakes.
func (pl Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	if c.What == framework.NodeChanged && slices.Equal(c.OldNode.Status.DeclaredFeatures, c.Node.Status.DeclaredFeatures) {
		return false
	}
	return pl.Filter(nil, p, c.Node) == nil
}
