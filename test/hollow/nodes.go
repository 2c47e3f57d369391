package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hardway/shared/version"
)

const leases = "kube-node-lease"

// cluster is all nodes.
type cluster struct {
	api    kubernetes.Interface
	o      options
	places chan struct{} // one for each write under way

	writes, running, late atomic.Int64

	mu   sync.Mutex
	pods map[string]*pod // by uid; guarded by mu
}

func (c *cluster) name(i int) string { return c.o.prefix + "-" + strconv.Itoa(i) }

// each does something for every node, as many at a time as there are writers, and returns the first failures.
func (c *cluster) each(ctx context.Context, do func(context.Context, int) error) error {
	var wg sync.WaitGroup
	var failures atomic.Pointer[error]
	for i := range c.o.nodes {
		select {
		case c.places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil || failures.Load() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-c.places }()
			c.writes.Add(1)
			if err := do(ctx, i); err != nil {
				err = fmt.Errorf("node %s: %w", c.name(i), err)
				failures.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := failures.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// join creates a node, or takes over one that an earlier run left, and its Lease.
func (c *cluster) join(ctx context.Context, i int) error {
	node := c.node(i)
	_, err := c.api.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := c.status(ctx, i); err != nil {
		return err
	}
	_, err = c.api.CoordinationV1().Leases(leases).Create(ctx, c.leaseOf(i), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return c.renewOne(ctx, i)
	}
	return err
}

func (c *cluster) node(i int) *corev1.Node {
	quantities := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(c.o.cpu), corev1.ResourceMemory: resource.MustParse(c.o.memory),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi")}
	now := metav1.Now()
	conditions := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		conditions = append(conditions, corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, LastHeartbeatTime: now, LastTransitionTime: now})
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: c.name(i), Labels: map[string]string{
			corev1.LabelHostname: c.name(i), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
			corev1.LabelTopologyZone: "zone-" + strconv.Itoa(i%max(1, c.o.zones)), "hollow": "true"}},
		Status: corev1.NodeStatus{Capacity: quantities, Allocatable: quantities, Conditions: conditions,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.%d.%d.%d", 128+i>>16, i>>8&255, i&255)},
				{Type: corev1.NodeHostName, Address: c.name(i)}},
			NodeInfo: corev1.NodeSystemInfo{KubeletVersion: version.Kubernetes, OperatingSystem: "linux", Architecture: "amd64", ContainerRuntimeVersion: "hollow://1"}},
	}
}

// status writes the node's state, whatever it was.
func (c *cluster) status(ctx context.Context, i int) error {
	node, err := c.api.CoreV1().Nodes().Get(ctx, c.name(i), metav1.GetOptions{})
	if err != nil {
		return err
	}
	node.Status = c.node(i).Status
	_, err = c.api.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

func (c *cluster) leaseOf(i int) *coordinationv1.Lease {
	holder, seconds, now := c.name(i), int32(40), metav1.NowMicro()
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leases, Name: holder},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now}}
}

// renewOne writes a Lease without having read it: nobody else does.
func (c *cluster) renewOne(ctx context.Context, i int) error {
	lease := c.leaseOf(i)
	_, err := c.api.CoordinationV1().Leases(leases).Update(ctx, lease, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = c.api.CoordinationV1().Leases(leases).Create(ctx, lease, metav1.CreateOptions{})
	}
	return err
}

// renew keeps the nodes alive until ctx ends: the renewals are spread evenly over their period, and the statuses over theirs.
func (c *cluster) renew(ctx context.Context) {
	step := c.o.lease / time.Duration(c.o.nodes)
	every := max(step, time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	beats := max(1, int(c.o.beat/c.o.lease))
	done, started := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(started) / max(step, 1)); done < due; done++ {
			i, round := done%c.o.nodes, done/c.o.nodes
			c.write(ctx, func() error {
				if (round+i)%beats == beats-1 {
					if err := c.status(ctx, i); err != nil {
						return err
					}
				}
				return c.renewOne(ctx, i)
			})
		}
	}
}

// write does one write when there is a place for it. A write that had to wait for its place is late: the API server cannot keep up.
func (c *cluster) write(ctx context.Context, do func() error) {
	select {
	case c.places <- struct{}{}:
	default:
		c.late.Add(1)
		select {
		case c.places <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	go func() {
		defer func() { <-c.places }()
		c.writes.Add(1)
		if err := do(); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			fmt.Fprintln(os.Stderr, "hollow:", err)
		}
	}()
}

// progress prints a line a second while something happens.
func (c *cluster) progress(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var pods, before int64 = -1, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		writes := c.writes.Load()
		if now := c.running.Load(); now != pods {
			pods = now
			say("%s  %d pods run, %d writes a second, %d late so far\n", time.Now().Format(time.TimeOnly), pods, writes-before, c.late.Load())
		}
		before = writes
	}
}

// leave removes the nodes.
func (c *cluster) leave() error {
	if c.o.keep {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return c.each(ctx, func(ctx context.Context, i int) error {
		var failures []error
		for _, err := range []error{c.api.CoreV1().Nodes().Delete(ctx, c.name(i), metav1.DeleteOptions{}),
			c.api.CoordinationV1().Leases(leases).Delete(ctx, c.name(i), metav1.DeleteOptions{})} {
			if err != nil && !apierrors.IsNotFound(err) {
				failures = append(failures, err)
			}
		}
		return errors.Join(failures...)
	})
}
