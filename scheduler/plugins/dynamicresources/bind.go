package dynamicresources

import (
	"context"
	"fmt"
	"slices"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/scheduler/framework"
)

// conflicts is how often a claim that others change meanwhile is tried again.
const conflicts = 5

// Writer is how decisions about claims reach the API.
type Writer interface {
	Claim(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error)
	UpdateClaim(ctx context.Context, c *resourcev1.ResourceClaim) (*resourcev1.ResourceClaim, error)
	UpdateClaimStatus(ctx context.Context, c *resourcev1.ResourceClaim) (*resourcev1.ResourceClaim, error)
}

// Reserve implements framework.Reserve: no other pod gets the devices.
func (pl *Plugin) Reserve(_ *framework.View, of any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := of.(*state)
	s.chosen = s.plans[n.Row]
	for i, c := range s.missing {
		pl.Devices.Assume(c.UID, &s.chosen[i])
	}
	return nil
}

// Unreserve implements framework.Reserve.
func (pl *Plugin) Unreserve(_ *framework.View, of any, _ *framework.Pod, _ string) {
	s := of.(*state)
	for _, c := range s.missing {
		if s.undecidable {
			pl.Devices.Doubt(c.UID)
		} else {
			pl.Devices.Forget(c.UID)
		}
	}
}

// Waits implements framework.PreBind.
func (*Plugin) Waits(of any) bool { return len(of.(*state).claims) > 0 }

// PreBind implements framework.PreBind: it writes down what the claims are given and that the pod uses them, and waits
// for devices that need to be made ready.
func (pl *Plugin) PreBind(ctx context.Context, of any, p *framework.Pod, node string) error {
	s := of.(*state)
	now := make([]*resourcev1.ResourceClaim, len(s.claims))
	next := 0
	for i, c := range s.claims {
		var give *resourcev1.AllocationResult
		if c.Status.Allocation == nil {
			give = s.chosen[next].DeepCopy()
			next++
		}
		var err error
		if now[i], err = pl.settle(ctx, s, c.ResourceClaim, give, p); err != nil {
			return err
		}
	}
	return pl.await(ctx, now, node)
}

// settle brings one claim to what was decided, however often others change it meanwhile.
func (pl *Plugin) settle(ctx context.Context, s *state, c *resourcev1.ResourceClaim, give *resourcev1.AllocationResult, p *framework.Pod) (*resourcev1.ResourceClaim, error) {
	if give == nil && reservedFor(c, p) {
		return c, nil
	}
	for tries := 0; ; tries++ {
		done, err := pl.write(ctx, c.DeepCopy(), give, p)
		if err == nil {
			return done, nil
		}
		if !apierrors.IsConflict(err) || tries == conflicts {
			s.undecidable = give != nil && !refusal(err)
			return nil, fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err)
		}
		uid := c.UID
		if c, err = pl.Writer.Claim(ctx, c.Namespace, c.Name); err != nil {
			return nil, err
		}
		switch {
		case c.UID != uid || c.DeletionTimestamp != nil:
			return nil, fmt.Errorf("claim %s/%s got deleted in the meantime", c.Namespace, c.Name)
		case give != nil && c.Status.Allocation != nil:
			return nil, fmt.Errorf("claim %s/%s got allocated elsewhere in the meantime", c.Namespace, c.Name)
		case give == nil && c.Status.Allocation == nil:
			return nil, fmt.Errorf("claim %s/%s got deallocated elsewhere in the meantime", c.Namespace, c.Name)
		}
	}
}

// refusal says that the API has answered and done nothing.
func refusal(err error) bool {
	return apierrors.ReasonForError(err) != metav1.StatusReasonUnknown && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) && !apierrors.IsInternalError(err)
}

// write sets the finalizer first, so that no claim with devices vanishes before they are given back.
func (pl *Plugin) write(ctx context.Context, c *resourcev1.ResourceClaim, give *resourcev1.AllocationResult, p *framework.Pod) (*resourcev1.ResourceClaim, error) {
	if give != nil && !slices.Contains(c.Finalizers, resourcev1.Finalizer) {
		c.Finalizers = append(c.Finalizers, resourcev1.Finalizer)
		var err error
		if c, err = pl.Writer.UpdateClaim(ctx, c); err != nil {
			return nil, fmt.Errorf("add finalizer: %w", err)
		}
	}
	if give != nil {
		c.Status.Allocation = give
		c.Status.Allocation.AllocationTimestamp = &metav1.Time{Time: pl.Now()}
	}
	if !reservedFor(c, p) {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	}
	c, err := pl.Writer.UpdateClaimStatus(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("write allocation and reservation: %w", err)
	}
	return c, nil
}

// await waits until all devices with binding conditions are ready.
func (pl *Plugin) await(ctx context.Context, claims []*resourcev1.ResourceClaim, node string) error {
	ctx, cancel := context.WithTimeout(ctx, pl.Patience)
	defer cancel()
	var tick *time.Ticker
	for i := range claims {
		for {
			ready, err := readiness(claims[i])
			if err != nil {
				return err
			}
			if ready {
				break
			}
			if tick == nil {
				tick = time.NewTicker(time.Second)
				defer tick.Stop()
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("device binding timeout: wait for the devices of claim %s/%s on node %s: %w", claims[i].Namespace, claims[i].Name, node, ctx.Err())
			case <-tick.C:
			}
			if claims[i], err = pl.Writer.Claim(ctx, claims[i].Namespace, claims[i].Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// readiness says whether all binding conditions of a claim's devices are true. An error is one that failed for good.
func readiness(c *resourcev1.ResourceClaim) (bool, error) {
	if c.Status.Allocation == nil {
		return false, fmt.Errorf("claim %s/%s was deallocated", c.Namespace, c.Name)
	}
	for i := range c.Status.Allocation.Devices.Results {
		r := &c.Status.Allocation.Devices.Results[i]
		if len(r.BindingConditions) == 0 {
			continue
		}
		at := slices.IndexFunc(c.Status.Devices, func(d resourcev1.AllocatedDeviceStatus) bool {
			return d.Driver == r.Driver && d.Pool == r.Pool && d.Device == r.Device && (d.ShareID == nil) == (r.ShareID == nil) &&
				(d.ShareID == nil || *d.ShareID == string(*r.ShareID))
		})
		if at < 0 {
			return false, nil
		}
		has := c.Status.Devices[at].Conditions
		for _, failure := range r.BindingFailureConditions {
			if is := meta.FindStatusCondition(has, failure); is != nil && is.Status == metav1.ConditionTrue {
				return false, fmt.Errorf("device binding failed: claim=%s, reason=%s, message=%q", c.Name, is.Reason, is.Message)
			}
		}
		for _, condition := range r.BindingConditions {
			if !meta.IsStatusConditionTrue(has, condition) {
				return false, nil
			}
		}
	}
	return true, nil
}

// overdue says that the devices of a claim had their time to become ready.
func (pl *Plugin) overdue(c *resourcev1.ResourceClaim) bool {
	a := c.Status.Allocation
	return a.AllocationTimestamp != nil && a.AllocationTimestamp.Add(pl.Patience).Before(pl.Now())
}
