package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	requestTimeout = 5 * time.Second
	firstRetry     = 100 * time.Millisecond
	lastRetry      = 5 * time.Second
)

// API is the part of the Node API that is used here.
type API interface {
	Get(ctx context.Context, name string) (*corev1.Node, error)
	Create(ctx context.Context, n *corev1.Node) (*corev1.Node, error)
	Patch(ctx context.Context, name string, data []byte, subresource ...string) (*corev1.Node, error)
}

// Options say what the Node looks like.
type Options struct {
	Name        string
	Labels      map[string]string // beside the ones every node has
	Taints      []corev1.Taint    // when it is registered
	ProviderID  string
	Register    bool          // create the object; otherwise wait for somebody else to do it
	StatusEvery time.Duration // how often the facts are looked at
	ReportEvery time.Duration // how often an unchanged status is written
	Facts       func(ctx context.Context) (Facts, error)
}

// Node keeps the object.
type Node struct {
	opts  Options
	api   API
	event func(eventtype, reason, format string, args ...any)
	log   *zap.Logger
	wake  chan struct{}
}

// New returns a keeper of the node. event records an event about the Node.
func New(api API, o Options, event func(eventtype, reason, format string, args ...any), log *zap.Logger) *Node {
	return &Node{opts: o, api: api, event: event, log: log, wake: make(chan struct{}, 1)}
}

// Poke has the status looked at now, because a fact has changed.
func (n *Node) Poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// startGrace is how long a node that was Ready is left so while its agent, started again, looks at what there is: a node
// that says for a moment that it is not makes every endpoint on it vanish.
const startGrace = 10 * time.Second

// Run registers the node and keeps its status until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	current, err := n.register(ctx)
	if err != nil {
		return err
	}
	n.event(corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	known, written, began := current.Status, time.Time{}, time.Now()
	tick := time.NewTicker(n.opts.StatusEvery)
	defer tick.Stop()
	retry := firstRetry
	for {
		f, err := n.opts.Facts(ctx)
		var st corev1.NodeStatus
		again := make(<-chan time.Time)
		if left := startGrace - time.Since(began); err == nil && f.Starting && left > 0 && isReady(known) {
			again = time.After(left)
		} else if err == nil {
			st = Status(f, known)
			if written.IsZero() || changed(st, known) || time.Since(written) >= n.opts.ReportEvery {
				err = n.write(ctx, known, st)
				if err == nil {
					known, written, retry = st, time.Now(), firstRetry
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			n.log.Warn("node status not stored", zap.Error(err))
			again = time.After(retry)
			retry = min(2*retry, lastRetry)
			if apierrors.IsNotFound(err) { // somebody deleted the Node
				if _, err := n.register(ctx); err != nil {
					return err
				}
				written = time.Time{}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.wake:
		case <-again:
		}
	}
}

// write stores the status and tells of a change of readiness.
func (n *Node) write(ctx context.Context, old, st corev1.NodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	data, err := statusPatch(st)
	if err != nil {
		return err
	}
	if _, err := n.api.Patch(ctx, n.opts.Name, data, "status"); err != nil {
		return fmt.Errorf("write status of node %s: %w", n.opts.Name, err)
	}
	if was, is := isReady(old), isReady(st); was != is {
		reason := "NodeNotReady"
		if is {
			reason = "NodeReady"
		}
		n.event(corev1.EventTypeNormal, reason, "Node %s status is now: %s", n.opts.Name, reason)
	}
	return nil
}

func isReady(st corev1.NodeStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// register makes the Node, or brings the labels of the one that is there up to date, and returns it. It keeps trying
// until ctx ends.
func (n *Node) register(ctx context.Context) (*corev1.Node, error) {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		node, err := n.ensure(ctx)
		if err == nil {
			return node, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n.log.Warn("node not registered yet", zap.Error(err))
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(delay):
		}
	}
}

func (n *Node) ensure(ctx context.Context) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if !n.opts.Register {
		return n.api.Get(ctx, n.opts.Name)
	}
	f, err := n.opts.Facts(ctx)
	if err != nil {
		return nil, err
	}
	want := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.opts.Name, Labels: n.labels(f),
			Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
		},
		Spec:   corev1.NodeSpec{Taints: n.opts.Taints, ProviderID: n.opts.ProviderID},
		Status: Status(f, corev1.NodeStatus{}),
	}
	created, err := n.api.Create(ctx, want)
	if err == nil {
		n.log.Info("node registered", zap.String("node", n.opts.Name))
		return created, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("register node %s: %w", n.opts.Name, err)
	}
	have, err := n.api.Get(ctx, n.opts.Name)
	if err != nil {
		return nil, err
	}
	missing := map[string]string{}
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			missing[k] = v
		}
	}
	if len(missing) == 0 {
		return have, nil
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": missing}})
	if err != nil {
		return nil, fmt.Errorf("encode labels: %w", err)
	}
	return n.api.Patch(ctx, n.opts.Name, data)
}

func (n *Node) labels(f Facts) map[string]string {
	out := map[string]string{
		corev1.LabelHostname: n.opts.Name, corev1.LabelOSStable: f.Machine.Info.OperatingSystem,
		corev1.LabelArchStable: f.Machine.Info.Architecture, "beta.kubernetes.io/os": f.Machine.Info.OperatingSystem,
		"beta.kubernetes.io/arch": f.Machine.Info.Architecture,
	}
	maps.Copy(out, n.opts.Labels)
	return out
}

// Ref names a node in events. Upstream puts the name where the uid belongs; kubectl describe looks for that.
func Ref(name string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: types.UID(name)}
}
