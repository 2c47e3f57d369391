package announce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

const (
	namespace = metav1.NamespaceSystem
	// label marks our Leases, so that others need not be watched.
	label = "hardway/announce"
	// lookEvery is how often everything is looked at, and requestTimeout bounds each request: one that hangs must not let addresses run out.
	lookEvery      = 100 * time.Millisecond
	requestTimeout = 500 * time.Millisecond
)

// Link is where addresses are held.
type Link interface {
	Hold(a netip.Addr, stay time.Duration) error
	Drop(a netip.Addr) error
	Announce(a netip.Addr) error
}

// Announcer takes part in the election of every address. What follows is of its one goroutine, apart from wanted.
type Announcer struct {
	api    *client.API
	node   string
	link   Link
	log    *zap.Logger
	leases *client.Informer[coordinationv1.Lease]

	mu     sync.Mutex
	wanted map[netip.Addr]bool // addresses of services, and whether this node may announce them; nil until known; guarded by mu

	pulses  map[string]pulse         // of holders, and of Leases without one by their name
	held    map[netip.Addr]time.Time // since when
	holding time.Time                // the last time that the addresses were held anew
	beaten  time.Time
	beat    *coordinationv1.Lease // our own, as last written
	failed  string                // the last failure that was logged
}

// pulse is the version of a Lease and when it was first seen.
type pulse struct {
	version string
	seen    time.Time
}

// New makes an announcer for a node. It asks for the informer that it needs.
func New(api *client.API, in *client.Informers, node string, link Link, log *zap.Logger) *Announcer {
	return &Announcer{api: api, node: node, link: link, log: log,
		leases: client.Leases.Informer(in, client.Options{Namespace: namespace, LabelSelector: label}),
		pulses: map[string]pulse{}, held: map[netip.Addr]time.Time{}}
}

// Set says which addresses there are, and whether this node may announce each.
func (a *Announcer) Set(wanted map[netip.Addr]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = maps.Clone(wanted)
	if a.wanted == nil {
		a.wanted = map[netip.Addr]bool{}
	}
}

// Run takes part until ctx ends; then it gives its addresses back.
func (a *Announcer) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			a.giveUp(context.WithoutCancel(ctx))
			return nil
		case now := <-tick.C:
			if a.leases.HasSynced() {
				a.report(a.look(ctx, now))
			}
		}
	}
}

// report logs a failure once, however often it is repeated.
func (a *Announcer) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != a.failed && text != "" {
		a.log.Warn("announcing load balancer addresses; trying again", zap.Error(err))
	}
	a.failed = text
}

// look goes over all addresses once.
func (a *Announcer) look(ctx context.Context, now time.Time) error {
	a.mu.Lock()
	wanted := a.wanted
	a.mu.Unlock()
	if wanted == nil {
		return nil // the services have not come yet: what we hold is ours still
	}
	var failures []error
	for address, eligible := range wanted {
		failures = append(failures, a.consider(ctx, now, address, eligible))
	}
	for address := range a.held {
		if _, still := wanted[address]; !still {
			failures = append(failures, a.remove(ctx, address))
		}
	}
	if len(a.held) > 0 {
		failures = append(failures, a.renew(ctx, now))
	}
	// Last, and whatever failed before: it must not be late.
	return errors.Join(append(failures, a.hold(time.Now()))...)
}

func (a *Announcer) consider(ctx context.Context, now time.Time, address netip.Addr, eligible bool) error {
	lease, _ := a.leases.Get(namespace, leaseName(address))
	s := situation{eligible: eligible, wait: delay(a.node, address), holder: holderOf(lease)}
	if s.holder != a.node {
		s.silent = a.silence(now, s.holder, leaseName(address), lease)
	}
	switch decide(a.node, s) {
	case keep:
		if _, known := a.held[address]; !known {
			a.held[address] = now
		}
		return nil
	case take:
		return a.take(ctx, now, address, lease)
	case release:
		return a.release(ctx, address, lease)
	default:
		return a.letGo(address, "another node announces it")
	}
}

func holderOf(l *coordinationv1.Lease) string {
	if l == nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// silence is how long the holder has not been seen to live, or how long there has been none.
func (a *Announcer) silence(now time.Time, holder, name string, lease *coordinationv1.Lease) time.Duration {
	if holder != "" {
		name = beatName(holder)
		lease, _ = a.leases.Get(namespace, name)
	}
	version := ""
	if lease != nil {
		version = lease.ResourceVersion
	}
	p, known := a.pulses[name]
	if !known || p.version != version {
		p = pulse{version, now}
		a.pulses[name] = p
	}
	return now.Sub(p.seen)
}

// take writes us into a Lease, after a look whether the holder really is dead: our own watch may be what is late.
func (a *Announcer) take(ctx context.Context, now time.Time, address netip.Addr, lease *coordinationv1.Lease) error {
	if old := holderOf(lease); old != "" {
		alive, err := a.lives(ctx, now, old)
		if err != nil || alive {
			return err
		}
	}
	if err := a.renew(ctx, now); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	if lease == nil {
		_, err = client.Leases.Create(ctx, a.api, a.lease(leaseName(address), now))
	} else {
		next := lease.DeepCopy()
		a.fill(next, now)
		transitions := int32(1)
		if lease.Spec.LeaseTransitions != nil {
			transitions += *lease.Spec.LeaseTransitions
		}
		next.Spec.LeaseTransitions = &transitions
		_, err = client.Leases.Update(ctx, a.api, next)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return nil // another node was faster
	}
	if err != nil {
		return fmt.Errorf("take address %s: %w", address, err)
	}
	a.held[address], a.holding = now, time.Time{}
	a.log.Info("announcing a load balancer address", zap.String("address", address.String()), zap.String("before", holderOf(lease)))
	return nil
}

// lives asks the API whether a holder has renewed since we last saw it.
func (a *Announcer) lives(ctx context.Context, now time.Time, holder string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	beat, err := client.Leases.Get(ctx, a.api, namespace, beatName(holder))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether node %s lives: %w", holder, err)
	}
	if a.pulses[beatName(holder)].version == beat.ResourceVersion {
		return false, nil
	}
	a.pulses[beatName(holder)] = pulse{beat.ResourceVersion, now}
	return true, nil
}

func (a *Announcer) lease(name string, now time.Time) *coordinationv1.Lease {
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{label: ""}}}
	a.fill(l, now)
	return l
}

func (a *Announcer) fill(l *coordinationv1.Lease, now time.Time) {
	stamp, seconds := metav1.NewMicroTime(now), int32(deadAfter.Seconds())
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.AcquireTime, l.Spec.RenewTime = &a.node, &seconds, &stamp, &stamp
}

// renew says that we live.
func (a *Announcer) renew(ctx context.Context, now time.Time) error {
	if now.Sub(a.beaten) < beatEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := a.writeBeat(ctx, now)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		a.beat = nil // somebody else wrote or removed it: look again
		err = a.writeBeat(ctx, now)
	}
	if err != nil {
		return fmt.Errorf("renew lease %s: %w", beatName(a.node), err)
	}
	a.beaten = now
	return nil
}

func (a *Announcer) writeBeat(ctx context.Context, now time.Time) error {
	var err error
	if a.beat == nil {
		a.beat, err = client.Leases.Get(ctx, a.api, namespace, beatName(a.node))
		if apierrors.IsNotFound(err) {
			a.beat, err = client.Leases.Create(ctx, a.api, a.lease(beatName(a.node), now))
		}
		if err != nil {
			a.beat = nil
			return err
		}
	}
	a.fill(a.beat, now)
	next, err := client.Leases.Update(ctx, a.api, a.beat)
	if err == nil {
		a.beat = next
	}
	return err
}

// hold makes the addresses stay, and repeats the announcement of those that are new here: neighbours may miss one.
func (a *Announcer) hold(now time.Time) error {
	if now.Sub(a.holding) < stay/3 {
		return nil
	}
	var failures []error
	for address, since := range a.held {
		failures = append(failures, a.link.Hold(address, stay))
		if now.Sub(since) <= againFor {
			failures = append(failures, a.link.Announce(address))
		}
	}
	a.holding = now
	return errors.Join(failures...)
}

// letGo stops holding an address, if we do.
func (a *Announcer) letGo(address netip.Addr, why string) error {
	if _, held := a.held[address]; !held {
		return nil
	}
	delete(a.held, address)
	a.log.Info("no longer announcing a load balancer address", zap.String("address", address.String()), zap.String("why", why))
	return a.link.Drop(address)
}

// release lets another node have the address.
func (a *Announcer) release(ctx context.Context, address netip.Addr, lease *coordinationv1.Lease) error {
	dropped := a.letGo(address, "this node has nothing to answer with")
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	next, nobody := lease.DeepCopy(), ""
	next.Spec.HolderIdentity = &nobody
	_, err := client.Leases.Update(ctx, a.api, next)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("give address %s back: %w", address, err)
	}
	return errors.Join(dropped, err)
}

// remove ends an address that no service has any more.
func (a *Announcer) remove(ctx context.Context, address netip.Addr) error {
	if err := a.letGo(address, "no service has it"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := client.Leases.Delete(ctx, a.api, namespace, leaseName(address), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove lease of address %s: %w", address, err)
	}
	return nil
}

// giveUp gives everything back before we go, so that nobody has to wait.
func (a *Announcer) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	for address := range a.held {
		if lease, ok := a.leases.Get(namespace, leaseName(address)); ok {
			a.report(a.release(ctx, address, lease))
		}
	}
}
