package server

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"hardway/netproxy/announce"
	"hardway/netproxy/config"
	"hardway/netproxy/healthcheck"
	"hardway/netproxy/kernel"
	"hardway/netproxy/plan"
	"hardway/netproxy/policy"
	"hardway/netproxy/state"
)

const (
	// lookEvery is how often the loop asks whether somebody else wrote to nftables. The question is one small message to the kernel.
	lookEvery = 5 * time.Second
	// Failed writes are repeated after retryFirst, then after twice the time, up to retryMost.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// source says what changed in the API.
type source interface {
	Ready() <-chan struct{}
	Take() state.Changes
}

// policySource says what changed around network policies.
type policySource interface {
	Ready() <-chan struct{}
	Take() state.PolicyChanges
}

// loop brings changes into the kernel, one step after the other: it is the only writer. Changes that come while a step is written are one step
// together; nothing else is waited for.
type loop struct {
	cfg       *config.Config
	source    source
	policies  policySource
	planner   *plan.Planner
	isolation *policy.Planner
	kernel    *kernel.Kernel
	cleaner   *cleaner
	proxy     *healthcheck.Proxy
	nodePorts *healthcheck.NodePorts
	announcer *announce.Announcer // nil: addresses of load balancers are somebody else's matter
	announces bool                // this node may announce any
	metrics   *metrics
	log       *zap.Logger

	options kernel.Options
	// behind is true while the kernel may not be as the planner thinks: the next write looks at everything.
	behind bool
	delay  time.Duration
	pulse  pulse
}

// run writes the first step as a whole, calls ready, and goes on until ctx ends. The tables stay: a proxy that restarts interrupts nothing.
func (l *loop) run(ctx context.Context, ready func()) error {
	defer l.nodePorts.Close()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	l.behind = true
	first := true
	for {
		l.pulse.beat()
		select {
		case <-ctx.Done():
			return nil
		case <-l.source.Ready():
		case <-l.policies.Ready():
		case <-retry.C:
			if !l.behind {
				continue
			}
		case <-look.C:
			if !l.drifted() {
				continue
			}
		}
		if l.write(ctx, l.source.Take(), l.policies.Take()) && first {
			first = false
			ready()
		}
		if l.behind {
			l.delay = min(max(2*l.delay, retryFirst), retryMost)
			retry.Reset(l.delay)
		} else {
			l.delay = 0
		}
	}
}

// drifted marks the kernel as behind when somebody else wrote to nftables.
func (l *loop) drifted() bool {
	drifted, err := l.kernel.Drifted()
	if err != nil {
		l.log.Warn("cannot tell whether the tables are as they should be", zap.Error(err))
	}
	l.behind = l.behind || drifted || err != nil
	return l.behind
}

// write takes changes in and brings them into the kernel. It reports whether the kernel has everything now.
func (l *loop) write(ctx context.Context, changes state.Changes, around state.PolicyChanges) bool {
	if n := changes.Node; n != nil {
		l.proxy.SetLeaving(n.Leaving)
		l.announces = n.Announces
		l.setOptions(*n)
	}
	step := l.planner.Step(changes)
	change := kernel.Change{Services: step}
	if !around.Empty() {
		change.Policies = l.isolation.Step(around)
		l.metrics.isolated.Set(float64(l.isolation.Isolated()))
	}
	l.metrics.services.Add(float64(len(changes.Services)))
	l.metrics.lookedAfter.Set(float64(l.planner.Len()))
	if change.Empty() && !l.behind {
		l.finish(ctx, step)
		return true
	}
	l.proxy.Queued()
	l.metrics.queued.SetToCurrentTime()
	if err := l.program(change); err != nil {
		l.behind = true
		l.cleaner.later(step.Flows)
		l.metrics.failures.Inc()
		l.log.Error("write to nftables; trying again", zap.Error(err))
		return false
	}
	for _, c := range changes.Services {
		if !c.Triggered.IsZero() {
			l.metrics.network.Observe(time.Since(c.Triggered).Seconds())
		}
	}
	l.finish(ctx, step)
	return true
}

// finish does what follows when the kernel has everything.
func (l *loop) finish(ctx context.Context, step plan.Step) {
	l.proxy.Synced()
	l.cleaner.later(step.Flows)
	l.cleaner.now()
	l.nodePorts.Set(ctx, l.planner.Health())
	if l.announcer != nil {
		wanted := l.planner.Announced()
		for address, here := range wanted {
			wanted[address] = here && l.announces
		}
		l.announcer.Set(wanted)
	}
}

// program writes one change, or everything if the kernel is behind.
func (l *loop) program(change kernel.Change) error {
	started := time.Now()
	if !l.behind {
		if err := l.kernel.Apply(l.options, change); err == nil {
			l.metrics.wrote(l.metrics.partial, started)
			l.log.Debug("wrote", zap.Int("added", len(change.Services.Add)+len(change.Policies.Add)),
				zap.Int("deleted", len(change.Services.Delete)+len(change.Policies.Delete)), zap.Duration("took", time.Since(started)))
			return nil
		}
		// The tables are not as they were left. Looking at everything is the cure, and says so if there is none.
	}
	repairs, err := l.kernel.Sync(kernel.Want{Options: l.options, Elements: l.planner.Elements(), Chains: l.planner.Chains(),
		Policies: l.isolation.Elements()})
	if err != nil {
		return err
	}
	l.behind = false
	l.metrics.wrote(l.metrics.full, started)
	if repairs.Any() {
		l.metrics.repairs.Inc()
		l.log.Info("tables brought up to date", zap.Int("services", l.planner.Len()), zap.Int("rebuilt", len(repairs.Rebuilt)), zap.Int("chains", repairs.Chains),
			zap.Int("added", repairs.Added), zap.Int("deleted", repairs.Deleted), zap.Duration("took", time.Since(started)))
	}
	return nil
}

// setOptions works out the rules' options; a difference needs a look at everything, for they are part of every chain.
func (l *loop) setOptions(n state.Node) {
	o := kernel.Options{MasqueradeAll: l.cfg.MasqueradeAll, MasqueradeMark: 1 << l.cfg.MasqueradeBit}
	// The configuration has been validated.
	o.ClusterCIDRs, _ = config.Prefixes(l.cfg.ClusterCIDR)
	if l.cfg.NodePortAddresses != config.Primary {
		o.NodePorts, _ = config.Prefixes(l.cfg.NodePortAddresses)
	} else {
		o.NodePorts = primary(n)
	}
	if !o.Equal(l.options) {
		l.options, l.behind = o, true
	}
}

// primary is the first address of each family of a node. A node that is not known yet offers node ports nowhere.
func primary(n state.Node) []netip.Prefix {
	out := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("::/128")}
	for i, f := range []plan.Family{plan.IPv4, plan.IPv6} {
		for _, a := range n.Addresses {
			if plan.FamilyOf(a) == f {
				out[i] = netip.PrefixFrom(a, a.BitLen())
				break
			}
		}
	}
	return out
}
