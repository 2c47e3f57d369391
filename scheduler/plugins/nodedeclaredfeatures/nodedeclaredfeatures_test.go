package nodedeclaredfeatures

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"hardway/scheduler/framework"
)

const restartAll = "RestartAllContainersOnContainerExits"

// needy is a pod that needs restartAll.
func needy() *framework.Pod {
	p := &corev1.Pod{}
	p.Spec.Containers = []corev1.Container{{RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}}}
	return framework.NewPod(p, framework.NewColumns())
}

func node(features ...string) *framework.Node {
	n := &corev1.Node{}
	n.Status.DeclaredFeatures = features
	return &framework.Node{Node: n}
}

func TestFilter(t *testing.T) {
	for name, test := range map[string]struct {
		node *framework.Node
		will bool
	}{
		"declares nothing":          {node: node()},
		"declares something else":   {node: node("UserNamespacesHostNetworkSupport", "Unheard")},
		"declares it":               {node: node(restartAll), will: true},
		"among others, in no order": {node: node("UserNamespacesHostNetworkSupport", "Unheard", restartAll, "A"), will: true},
	} {
		t.Run(name, func(t *testing.T) {
			no := Plugin{}.Filter(nil, needy(), test.node)
			if (no == nil) != test.will || no != nil && no.Code != framework.Unresolvable {
				t.Errorf("verdict %v", no)
			}
		})
	}
	if !(Plugin{}).PreFilter(nil, framework.NewPod(&corev1.Pod{}, framework.NewColumns())).Skip {
		t.Error("has something to say about a pod that needs nothing")
	}
}

func TestHelps(t *testing.T) {
	for name, test := range map[string]struct {
		change framework.Change
		helps  bool
	}{
		"a node comes that can":        {framework.Change{What: framework.NodeAdded, Node: node(restartAll)}, true},
		"a node comes that cannot":     {framework.Change{What: framework.NodeAdded, Node: node()}, false},
		"a node can do it now":         {framework.Change{What: framework.NodeChanged, Node: node(restartAll), OldNode: node().Node}, true},
		"something else of it changed": {framework.Change{What: framework.NodeChanged, Node: node(restartAll), OldNode: node(restartAll).Node}, false},
	} {
		if got := (Plugin{}).Helps(needy(), test.change); got != test.helps {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSignaturesTellNeedsApart(t *testing.T) {
	columns := framework.NewColumns()
	plain := &corev1.Pod{}
	plain.Spec.Containers = []corev1.Container{{}}
	if needy().Sign(columns, nil) == framework.NewPod(plain, columns).Sign(columns, nil) {
		t.Error("a pod that needs a feature reads like one that does not")
	}
}
