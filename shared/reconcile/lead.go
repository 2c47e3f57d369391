package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"hardway/shared/client"
)

// Election says who competes for which Lease.
type Election struct {
	API             *client.API
	Namespace, Name string // of the Lease
	Identity        string // of this process, unique among the competitors

	Lease time.Duration // how long others wait after the last renewal they saw; default 15 s
	Renew time.Duration // how long the leader keeps working without a renewal; default 10 s, less than Lease
	Retry time.Duration // between two tries; default 2 s

	ReleaseOnExit bool // give the Lease back, so that the next one need not wait
}

// firstTry is the pause after the first failed request for a Lease; it doubles up to Retry.
const firstTry = 50 * time.Millisecond

// Lead runs work while this process holds the Lease, until ctx ends. When the Lease is lost, work's context ends and,
// once work has returned, Lead competes again: losing it is no reason for a process to exit (as in KEP-5366).
//
// Whether a holder is alive is judged by when its renewals were seen to arrive, on this machine's monotonic clock;
// the times written in the Lease are for people. A paused leader that wakes up late cannot be stopped by a Lease, so
// writes of work must be guarded by resourceVersions as all writes of a reconciler are.
func Lead(ctx context.Context, e Election, log *zap.Logger, work func(ctx context.Context) error) error {
	e.Lease, e.Renew, e.Retry = orDefault(e.Lease, 15*time.Second), orDefault(e.Renew, 10*time.Second), orDefault(e.Retry, 2*time.Second)
	if e.Renew >= e.Lease {
		return fmt.Errorf("lease %s: the renew deadline %s must be less than the lease duration %s", e.Name, e.Renew, e.Lease)
	}
	c := &candidate{Election: e, log: log.With(zap.String("lease", e.Namespace+"/"+e.Name))}
	for ctx.Err() == nil {
		if !c.acquire(ctx) {
			return nil
		}
		c.log.Info("leading", zap.String("identity", e.Identity))
		if err := c.hold(ctx, work); err != nil {
			return err
		}
	}
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// candidate is one process in an election. It has one goroutine.
type candidate struct {
	Election
	log *zap.Logger

	lease *coordinationv1.Lease // as last seen
	seen  time.Time             // when its resourceVersion was first seen, monotonic
}

// acquire tries until the Lease is ours, or ctx ends and it returns false.
func (c *candidate) acquire(ctx context.Context) bool {
	pause := firstTry
	for {
		held, err := c.try(ctx)
		if held {
			return true
		}
		wait := c.Retry
		if err != nil {
			// At the start of a cluster the apiserver is about to come, or another candidate was faster.
			c.log.Debug("cannot get the lease", zap.Error(err))
			wait = min(pause, wait)
			pause *= 2
		} else if left := c.Lease - time.Since(c.seen); left < wait {
			wait = max(left, 10*time.Millisecond)
		}
		if !sleep(ctx, wait) {
			return false
		}
	}
}

// hold runs work and renews the Lease until ctx ends, work fails or the Lease is lost. Only the failure is an error.
func (c *candidate) hold(ctx context.Context, work func(ctx context.Context) error) error {
	workCtx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- work(workCtx) }()
	renewed := time.Now()
	for {
		select {
		case err := <-done:
			c.release(ctx)
			if ctx.Err() == nil && err == nil {
				err = errors.New("the leader's work ended by itself")
			}
			return err
		case <-time.After(c.Retry):
		}
		tryCtx, cancel := context.WithDeadline(ctx, renewed.Add(c.Renew))
		held, err := c.try(tryCtx)
		cancel()
		switch {
		case held:
			renewed = time.Now()
		case err == nil || time.Since(renewed) > c.Renew:
			c.log.Warn("lost the lease, stopping work", zap.Error(err))
			stop()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				c.log.Warn("work stopped with an error", zap.Error(err))
			}
			return nil
		}
	}
}

// try reads the Lease and takes or renews it when that is allowed. Not held without an error: another one leads.
func (c *candidate) try(ctx context.Context) (held bool, err error) {
	if c.lease != nil && c.ours() {
		// The usual case costs one request: renew what we saw last.
		if err = c.write(ctx, c.lease); err == nil {
			return true, nil
		}
	}
	now, err := client.Leases.Get(ctx, c.API, c.Namespace, c.Name)
	if apierrors.IsNotFound(err) {
		return c.create(ctx)
	}
	if err != nil {
		return false, err
	}
	if c.lease == nil || c.lease.ResourceVersion != now.ResourceVersion {
		c.seen = time.Now()
	}
	c.lease = now
	if !c.ours() && holder(now) != "" && time.Since(c.seen) < c.Lease {
		return false, nil
	}
	if err := c.write(ctx, now); err != nil {
		return false, err
	}
	return true, nil
}

func (c *candidate) create(ctx context.Context) (bool, error) {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name}}
	c.fill(lease)
	made, err := client.Leases.Create(ctx, c.API, lease)
	if err != nil {
		return false, err
	}
	c.lease, c.seen = made, time.Now()
	return true, nil
}

// write renews the given Lease in our name; a conflict means that somebody else was faster.
func (c *candidate) write(ctx context.Context, lease *coordinationv1.Lease) error {
	wanted := lease.DeepCopy()
	c.fill(wanted)
	made, err := client.Leases.Update(ctx, c.API, wanted)
	if err != nil {
		return err
	}
	c.lease, c.seen = made, time.Now()
	return nil
}

func (c *candidate) fill(lease *coordinationv1.Lease) {
	now := metav1.NowMicro()
	if holder(lease) != c.Identity {
		transitions := int32(0)
		if lease.Spec.LeaseTransitions != nil {
			transitions = *lease.Spec.LeaseTransitions + 1
		}
		lease.Spec.LeaseTransitions, lease.Spec.AcquireTime = &transitions, &now
	}
	seconds := int32(c.Lease.Round(time.Second) / time.Second)
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &c.Identity, &seconds, &now
}

// release gives the Lease back if that is wished and still ours to do.
func (c *candidate) release(ctx context.Context) {
	if !c.ReleaseOnExit || c.lease == nil || !c.ours() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	free := c.lease.DeepCopy()
	nobody, second := "", int32(1)
	free.Spec.HolderIdentity, free.Spec.LeaseDurationSeconds = &nobody, &second
	if _, err := client.Leases.Update(ctx, c.API, free); err != nil {
		c.log.Debug("cannot release the lease", zap.Error(err))
	}
	c.lease = nil
}

func (c *candidate) ours() bool { return holder(c.lease) == c.Identity }

func holder(l *coordinationv1.Lease) string {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// sleep waits, or returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Identity names this process among the competitors for a Lease. A daemon that holds a port of the machine is named by
// it: no second one can be there, so a daemon that was killed and started again finds the Lease its own and need not
// wait for it to run out. Without a port the name is made up.
func Identity(port int) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name this process: %w", err)
	}
	if port == 0 {
		return host + "_" + string(uuid.NewUUID()), nil
	}
	return fmt.Sprintf("%s_%d", host, port), nil
}
