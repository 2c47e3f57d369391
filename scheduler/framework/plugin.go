package framework

import (
	"context"

	resourcev1 "k8s.io/api/resource/v1"
)

// MaxScore is the best score that a plugin gives a node; the worst is 0.
const MaxScore = 100

// Ignored is the raw score of a node that a Normalize plugin leaves out of its ranking: it counts as 0, and as neither
// least nor greatest.
const Ignored = -1 << 62

// Plugin is a rule of scheduling, under upstream's name.
type Plugin interface{ Name() string }

// PreEnqueue keeps a pod out of the queue until something about the pod itself changes.
type PreEnqueue interface {
	Plugin
	PreEnqueue(p *Pod) *Status
}

// Sort orders the queue: whether a is tried before b.
type Sort interface {
	Plugin
	Less(a, b *Queued) bool
}

// PreFilter computes, once for a pod, what Filter needs, and may say no for all nodes.
type PreFilter interface {
	Plugin
	PreFilter(v *View, p *Pod) Prepared
}

// Prepared is what PreFilter found out.
type Prepared struct {
	State any      // handed to Filter, Follow, Reserve and PreBind of the same plugin
	Skip  bool     // Filter has nothing to say about this pod
	Nodes []string // when not nil: the only nodes that may do
	No    *Status  // when not nil: no node will do
}

// Filter says whether a node will do. Without a PreFilter, state is nil.
type Filter interface {
	Plugin
	Filter(state any, p *Pod, n *Node) *Status
}

// Follow keeps the state of a PreFilter or PreScore plugin true: other has come to node n (sign 1) or has left it (-1).
// Rows besides n for which the plugin's answer may differ now are marked. Marks is nil while preemption tries things out.
// When n itself has changed, other is nil, and sign is 1 if its labels or taints may differ, or it came or went; a state
// that cannot be corrected for that asks to be made anew.
type Follow interface {
	Plugin
	Follow(state any, p *Pod, other *Pod, n *Node, sign int32, marks *Marks)
}

// Trial is how preemption sees one node for one pod: with pods taken off and put back, does the pod fit?
type Trial interface {
	Node() *Node
	Remove(other *Pod)
	Add(other *Pod)
	Fits() *Status
}

// Situation is what PostFilter is given when no node will do.
type Situation interface {
	View() *View
	// Verdict is why a row will not do.
	Verdict(row int) *Status
	// Try gives a Trial of a row to f; all that f did to it is undone afterwards.
	Try(row int, f func(Trial))
}

// PostFilter looks for a way out when no node will do.
type PostFilter interface {
	Plugin
	// PostFilter is given the state of the plugin's own PreFilter, nil without one.
	PostFilter(s Situation, state any, p *Pod) (*Eviction, *Status)
}

// Eviction is PostFilter's way out: once the victims are gone, the pod is likely to fit on the node. Without a node
// there is none.
type Eviction struct {
	Node       string
	Victims    []*Pod // the most important first
	Violations int    // of disruption budgets
	// Release is a claim whose devices are given back, so that others can be found for it. Then there is no node.
	Release *resourcev1.ResourceClaim
	// Outranked are pods of lower priority that had been promised the node.
	Outranked []*Pod
}

// PreScore computes, once for a pod, what Score needs; skip says that the plugin has no preference about this pod now.
type PreScore interface {
	Plugin
	PreScore(v *View, p *Pod) (state any, skip bool)
}

// Score ranks a node that will do. With Normalize raw scores may be any numbers. Of a plugin without PreScore, the state
// is that of its PreFilter, and it has nothing to say when that skipped.
type Score interface {
	Plugin
	Score(state any, p *Pod, n *Node) int64
}

// Normalize brings the raw scores of all nodes that will do to 0..MaxScore, knowing the least and the greatest.
type Normalize interface {
	Normalize(state any, raw, least, greatest int64) int64
}

// Among is for Score plugins that rank a node by which others will do as well: it is called before the first Score, and
// again when the set of rows that will do has changed. It says whether scores may differ.
type Among interface {
	Among(state any, p *Pod, feasible func(yield func(row int) bool)) (changed bool)
}

// Reserve takes note that a pod will go to a node, before the API knows, and undoes that. State is never nil.
type Reserve interface {
	Plugin
	Reserve(v *View, state any, p *Pod, n *Node) *Status
	Unreserve(v *View, state any, p *Pod, node string)
}

// Permit holds a pod back that has a node, beside the loop, until it may be bound; an error puts it back. ctx bounds the wait.
type Permit interface {
	Plugin
	Permit(ctx context.Context, p *Pod, node string) error
}

// PostBind is told of a pod that has been bound, beside the loop.
type PostBind interface {
	Plugin
	PostBind(p *Pod, node string)
}

// PreBind does what must be done before a pod is bound, beside the loop. It may wait for others; ctx bounds that.
type PreBind interface {
	Plugin
	// Waits says whether there is something to do at all.
	Waits(state any) bool
	PreBind(ctx context.Context, state any, p *Pod, node string) error
}

// Bind tells the API where a pod goes.
type Bind interface {
	Plugin
	Bind(ctx context.Context, p *Pod, node string) error
}

// Binding is a pod's way to its node.
type Binding struct {
	Pod  *Pod
	Node string
	Err  error // what came of it
}

// BindAll is for Bind plugins to which several bindings at once come cheaper than one by one.
type BindAll interface {
	Bind
	BindAll(ctx context.Context, list []Binding)
}

// Wakes says which changes of the cluster may turn a plugin's no into a yes for a pod.
type Wakes interface {
	Plugin
	// Heeds are the kinds of change that can help at all; Helps is asked about those only.
	Heeds() ChangeKinds
	Helps(p *Pod, c Change) bool
}

// Profile is the ordered plugins of one scheduler name.
type Profile struct {
	Scheduler  string
	Sort       Sort
	PreEnqueue []PreEnqueue
	PreFilter  []PreFilter
	Filter     []Filter
	PostFilter []PostFilter
	Score      []Weighted
	Reserve    []Reserve
	Permit     []Permit
	PreBind    []PreBind
	Bind       Bind
	PostBind   []PostBind
	Wakes      map[string]Wakes // by plugin name
}

// Weighted is a Score plugin with its weight.
type Weighted struct {
	Score
	Weight int64
}
