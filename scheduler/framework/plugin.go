package framework

import "context"

// MaxScore is the best score that a plugin gives a node; the worst is 0.
const MaxScore = 100

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
	PreFilter(s *State, p *Pod) *Status
}

// Filter says whether a node will do.
type Filter interface {
	Plugin
	Filter(s *State, p *Pod, n *Node) *Status
}

// PreScore computes, once for a pod, what Score needs; skip says that the plugin has no preference about this pod.
type PreScore interface {
	Plugin
	PreScore(s *State, p *Pod) (skip bool)
}

// Score ranks a node that will do. With Normalize raw scores may be any numbers.
type Score interface {
	Plugin
	Score(s *State, p *Pod, n *Node) int64
}

// Normalize brings the raw scores of all nodes that will do to 0..MaxScore, knowing their greatest.
type Normalize interface {
	Normalize(raw, greatest int64) int64
}

// Bind tells the API where a pod goes.
type Bind interface {
	Plugin
	Bind(ctx context.Context, p *Pod, node string) error
}

// Wakes says which changes of the cluster may turn a plugin's no into a yes for a pod.
type Wakes interface {
	Plugin
	Helps(p *Pod, c Change) bool
}

// Change is something that happened in the cluster which pods may be waiting for.
type Change struct {
	What ChangeKind
	Node *Node // of NodeAdded and NodeChanged: as it is now
	Pod  *Pod  // of PodGone
}

// ChangeKind is what happened.
type ChangeKind int

// The changes that can help.
const (
	NodeAdded ChangeKind = iota
	NodeChanged
	PodGone // a pod left its node
)

// State carries what PreFilter and PreScore computed to Filter and Score of the same plugin, by plugin name.
type State struct{ values map[string]any }

// NewState is empty.
func NewState() *State { return &State{values: map[string]any{}} }

// Set keeps a value for a plugin.
func (s *State) Set(plugin string, v any) { s.values[plugin] = v }

// Get returns what Set kept, and whether it is there with that type.
func Get[T any](s *State, plugin string) (T, bool) {
	v, ok := s.values[plugin].(T)
	return v, ok
}

// Profile is the ordered plugins of one scheduler name.
type Profile struct {
	Scheduler  string
	Sort       Sort
	PreEnqueue []PreEnqueue
	PreFilter  []PreFilter
	Filter     []Filter
	Score      []Weighted
	Bind       Bind
	Wakes      map[string]Wakes // by plugin name
}

// Weighted is a Score plugin with its weight.
type Weighted struct {
	Score
	Weight int64
}
