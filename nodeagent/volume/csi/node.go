package csi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeIDs is the annotation of a Node with the ids that drivers know it by, as a JSON object.
const nodeIDs = "csi.volume.kubernetes.io/nodeid"

const (
	writeTries = 10
	writeRetry = 200 * time.Millisecond
)

// NodeAPI is the part of the API that says which drivers a node has.
type NodeAPI interface {
	Node(ctx context.Context) (*corev1.Node, error)
	PatchNode(ctx context.Context, merge []byte) error
	CSINode(ctx context.Context) (*storagev1.CSINode, error)
	CreateCSINode(ctx context.Context, n *storagev1.CSINode) error
	UpdateCSINode(ctx context.Context, n *storagev1.CSINode) error
}

// Node keeps the CSINode of the node, and the labels and the annotation of its Node that come from drivers.
type Node struct {
	API NodeAPI
	Log *zap.Logger

	lock keyed // one writer at a time
}

// Run sees to it that there is a CSINode even without any driver, as schedulers expect.
func (n *Node) Run(ctx context.Context) error {
	n.change(ctx, "make the CSINode", func(*storagev1.CSINodeSpec) {}) //nolint:errcheck // told in the log; the next driver tries again
	<-ctx.Done()
	return nil
}

// Install writes down a driver with where it says that the node is.
func (n *Node) Install(ctx context.Context, d storagev1.CSINodeDriver, topology map[string]string) error {
	node, err := n.API.Node(ctx)
	if err != nil {
		return err
	}
	patch, err := nodePatch(node, d.Name, d.NodeID, topology)
	if err == nil && patch != nil {
		err = n.API.PatchNode(ctx, patch)
	}
	if err != nil {
		return fmt.Errorf("write driver %s to the Node: %w", d.Name, err)
	}
	return n.change(ctx, "write driver "+d.Name+" to the CSINode", func(s *storagev1.CSINodeSpec) {
		s.Drivers = slices.DeleteFunc(s.Drivers, func(o storagev1.CSINodeDriver) bool { return o.Name == d.Name })
		s.Drivers = append(s.Drivers, d)
		slices.SortFunc(s.Drivers, func(a, b storagev1.CSINodeDriver) int { return cmp.Compare(a.Name, b.Name) })
	})
}

// Uninstall takes a driver out again. Labels stay: volumes that are there may have been made by them.
func (n *Node) Uninstall(ctx context.Context, name string) {
	err := n.change(ctx, "take driver "+name+" out of the CSINode", func(s *storagev1.CSINodeSpec) {
		s.Drivers = slices.DeleteFunc(s.Drivers, func(o storagev1.CSINodeDriver) bool { return o.Name == name })
	})
	var node *corev1.Node
	if err == nil {
		node, err = n.API.Node(ctx)
	}
	var patch []byte
	if err == nil {
		patch, err = nodePatch(node, name, "", nil)
	}
	if err == nil && patch != nil {
		err = n.API.PatchNode(ctx, patch)
	}
	if err != nil {
		n.Log.Warn("driver is gone but still in the API", zap.String("driver", name), zap.Error(err))
	}
}

// nodePatch is the change of a Node that a driver asks for; nil if there is none. An empty id takes the driver out.
func nodePatch(node *corev1.Node, driver, id string, topology map[string]string) ([]byte, error) {
	labels := map[string]string{}
	for k, v := range topology {
		switch have, ok := node.Labels[k]; {
		case !ok:
			labels[k] = v
		case have != v:
			return nil, fmt.Errorf("it says that the node is at %s=%s, but the Node has %s=%s", k, v, k, have)
		}
	}
	ids := map[string]string{}
	if text := node.Annotations[nodeIDs]; text != "" {
		if err := json.Unmarshal([]byte(text), &ids); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", nodeIDs, err)
		}
	}
	if ids[driver] == id && len(labels) == 0 {
		return nil, nil
	}
	ids[driver] = id
	if id == "" {
		delete(ids, driver)
	}
	var value any // null removes it
	if len(ids) > 0 {
		text, err := json.Marshal(ids)
		if err != nil {
			return nil, err
		}
		value = string(text)
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": map[string]any{nodeIDs: value}}})
}

// change brings the CSINode to what edit makes of it, and makes it if need be.
func (n *Node) change(ctx context.Context, what string, edit func(*storagev1.CSINodeSpec)) error {
	release, err := n.lock.lock(ctx, "")
	if err != nil {
		return err
	}
	defer release()
	for try := 1; ; try++ {
		err := n.once(ctx, edit)
		if err == nil {
			return nil
		}
		if try == writeTries {
			n.Log.Warn(what, zap.Error(err))
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(time.Duration(try) * writeRetry):
		}
	}
}

func (n *Node) once(ctx context.Context, edit func(*storagev1.CSINodeSpec)) error {
	have, err := n.API.CSINode(ctx)
	if apierrors.IsNotFound(err) {
		node, err := n.API.Node(ctx)
		if err != nil {
			return err
		}
		made := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node.Name, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID},
		}}}
		edit(&made.Spec)
		return n.API.CreateCSINode(ctx, made)
	}
	if err != nil {
		return err
	}
	want := have.DeepCopy()
	edit(&want.Spec)
	if apiequality.Semantic.DeepEqual(have.Spec, want.Spec) {
		return nil
	}
	err = n.API.UpdateCSINode(ctx, want)
	if apierrors.IsInvalid(err) { // what a driver says of a node cannot change, only be taken out and written anew
		was := have.DeepCopy()
		was.Spec.Drivers = slices.DeleteFunc(was.Spec.Drivers, func(d storagev1.CSINodeDriver) bool {
			return !slices.ContainsFunc(want.Spec.Drivers, func(w storagev1.CSINodeDriver) bool { return apiequality.Semantic.DeepEqual(d, w) })
		})
		if err := n.API.UpdateCSINode(ctx, was); err != nil {
			return err
		}
		return fmt.Errorf("written anew: %w", err)
	}
	return err
}
