package node

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// LeaseAPI is the part of the Lease API that is used here.
type LeaseAPI interface {
	Get(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error)
	Create(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error)
	Update(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error)
}

// Lease is the node's sign of life.
type Lease struct {
	API     LeaseAPI
	Node    string
	UID     func() types.UID // of the Node, "" while it is not known; the Lease goes when the Node does
	Seconds int32            // how long a renewal counts
	Log     *zap.Logger
}

// Run renews the lease four times in its duration until ctx ends. A renewal starts from the object that the last one
// returned, so it costs one request; a request that hangs is given up well before the next is due.
func (l *Lease) Run(ctx context.Context) error {
	every := time.Duration(l.Seconds) * time.Second / 4
	var have *coordinationv1.Lease
	for {
		next, err := l.renew(ctx, have, every/2)
		wait := every
		if err != nil {
			if ctx.Err() == nil {
				l.Log.Warn("lease not renewed", zap.Error(err))
			}
			have, wait = nil, min(every/10, time.Second)
		} else {
			have = next
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (l *Lease) renew(ctx context.Context, have *coordinationv1.Lease, timeout time.Duration) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if have == nil {
		var err error
		have, err = l.API.Get(ctx, corev1.NamespaceNodeLease, l.Node)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read lease of node %s: %w", l.Node, err)
		}
		if err != nil {
			return l.API.Create(ctx, l.fill(&coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: l.Node},
			}))
		}
	}
	return l.API.Update(ctx, l.fill(have.DeepCopy()))
}

// fill sets what a renewal says.
func (l *Lease) fill(lease *coordinationv1.Lease) *coordinationv1.Lease {
	now := metav1.NowMicro()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &l.Node, &l.Seconds, &now
	if uid := l.UID(); uid != "" && len(lease.OwnerReferences) == 0 {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: l.Node, UID: uid}}
	}
	return lease
}
