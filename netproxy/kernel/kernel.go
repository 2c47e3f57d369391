// Package kernel keeps this node's nftables in the form that package plan asks for, through netlink.
//
// All that it owns is one table per address family, both called "hardway-services"; it never looks at, or touches, another. [Kernel.Sync] takes
// the whole wish: it reads the tables, compares, and writes the difference, so it may be repeated and repairs whatever somebody else changed.
// [Kernel.Apply] writes one step and trusts that the tables are as the last call left them; if they are not, the kernel refuses the step as a
// whole and the caller falls back to Sync. Either call is one transaction: packets see all of it or nothing. Established connections are not
// affected by any of it, for their translation is in conntrack.
package kernel

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"hardway/netproxy/plan"
	"hardway/netproxy/policy"
)

// TableName is the name of both tables.
const TableName = "hardway-services"

// replyTimeout bounds the wait for the kernel's answer to a transaction that it has already carried out.
const replyTimeout = 10 * time.Second

// Socket buffers hold a whole transaction and one acknowledgement per message of it: about 100,000 elements at once.
const (
	sendBuffer    = 64 << 20
	receiveBuffer = 16 << 20
)

// Kernel is the door to nftables in one network namespace. It is not safe for concurrent use.
//
// The sockets stay open: the kernel makes whoever closes one wait until everything that was ever deleted is freed, which takes tens of
// milliseconds. After an error they are opened anew, because answers may be left in them.
type Kernel struct {
	netns      int
	families   []plan.Family
	conn       *nftables.Conn
	socket     *netlink.Conn // conn's
	counter    *netlink.Conn // for asking after the generation
	generation uint32        // of the rule set after our last write
}

// Want is the whole wish.
type Want struct {
	Options  Options
	Elements []plan.Element
	Chains   []plan.Chain
	Policies []policy.Element
}

// Change is what differs from the last wish.
type Change struct {
	Services plan.Step
	Policies policy.Step
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return c.Services.Empty() && c.Policies.Empty() }

// Repairs says what Sync found to do.
type Repairs struct {
	Rebuilt []plan.Family // tables that were missing or not in our form
	Chains  int           // chains whose rules were replaced, added or removed
	Added   int           // elements
	Deleted int           // elements
}

// Any reports whether there was anything to do.
func (r Repairs) Any() bool { return len(r.Rebuilt)+r.Chains+r.Added+r.Deleted > 0 }

// Open makes the door. netns is a file descriptor of a network namespace, or 0 for the caller's. Families without support in the kernel must
// not be listed.
func Open(netns int, families []plan.Family) (*Kernel, error) {
	k := &Kernel{netns: netns, families: families}
	if err := k.open(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Kernel) open() error {
	counter, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(k.netns), nftables.WithSockOptions(func(c *netlink.Conn) error {
		k.socket = c
		return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(receiveBuffer))
	}))
	if err != nil {
		return errors.Join(fmt.Errorf("open nftables: %w", err), counter.Close())
	}
	k.conn, k.counter = conn, counter
	return nil
}

// Close closes the sockets and leaves the tables as they are.
func (k *Kernel) Close() error {
	return errors.Join(k.conn.CloseLasting(), k.counter.Close())
}

// Families lists what this machine speaks: IPv4, and IPv6 unless it is switched off.
func Families() []plan.Family {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return []plan.Family{plan.IPv4}
	}
	return []plan.Family{plan.IPv4, plan.IPv6}
}

func table(f plan.Family) *nftables.Table {
	family := nftables.TableFamilyIPv4
	if f == plan.IPv6 {
		family = nftables.TableFamilyIPv6
	}
	return &nftables.Table{Name: TableName, Family: family}
}

// Apply carries out one change. The options are those of the last Sync.
func (k *Kernel) Apply(options Options, change Change) error {
	if change.Empty() {
		return nil
	}
	step := change.Services
	return k.transaction(func(b *batch) {
		for _, f := range k.families {
			t, book := table(f), rulebook{options, f}
			for _, c := range step.NewChains {
				if c.Family == f {
					b.shape(t, book, c)
				}
			}
			for _, g := range append(byMap(f, step.Delete), policiesByMap(f, change.Policies.Delete)...) {
				for i := range g.elements {
					g.elements[i].Val = nil
				}
				b.deleteElements(t, g.name, g.elements)
			}
			for _, g := range append(byMap(f, step.Add), policiesByMap(f, change.Policies.Add)...) {
				b.addElements(t, g.name, g.elements)
			}
			for _, c := range step.OldChains {
				if c.Family == f {
					b.dropShape(t, way{shapesOf(c.From), shapeKey(c.Shape), c.String()})
				}
			}
		}
	})
}

// run is a run of elements of one map.
type run struct {
	name     string
	elements []nftables.SetElement
}

// byMap encodes the elements of one family, which are ordered by map.
func byMap(f plan.Family, elements []plan.Element) []run {
	return runs(elements, func(e plan.Element) (string, bool) { return e.Key.Map.String(), e.Key.Family == f }, encode)
}

// policiesByMap is byMap for network policies.
func policiesByMap(f plan.Family, elements []policy.Element) []run {
	return runs(elements, func(e policy.Element) (string, bool) { return e.Key.Map.String(), e.Key.Family == f }, encodePolicy)
}

// runs encodes those elements that at says are wanted, and names the map of.
func runs[E any](elements []E, at func(E) (string, bool), encode func(E) nftables.SetElement) []run {
	var out []run
	for _, e := range elements {
		name, wanted := at(e)
		if !wanted {
			continue
		}
		if len(out) == 0 || out[len(out)-1].name != name {
			out = append(out, run{name: name})
		}
		last := &out[len(out)-1]
		last.elements = append(last.elements, encode(e))
	}
	return out
}

// Sync brings the tables to what is wanted, whatever they were.
func (k *Kernel) Sync(want Want) (Repairs, error) {
	var repairs Repairs
	err := k.transaction(func(b *batch) {
		for _, f := range k.families {
			b.note(k.syncFamily(b, f, want, &repairs))
		}
	})
	if err != nil {
		return Repairs{}, err
	}
	return repairs, nil
}

func (k *Kernel) syncFamily(b *batch, f plan.Family, want Want, repairs *Repairs) error {
	t, book := table(f), rulebook{want.Options, f}
	var chains []plan.Chain
	for _, c := range want.Chains {
		if c.Family == f {
			chains = append(chains, c)
		}
	}
	is, err := k.read(t, book, chains)
	if errors.Is(err, errBroken) {
		b.conn.DelTable(t)
		is = found{}
	} else if err != nil {
		return fmt.Errorf("read table %s of IPv%d: %w", TableName, f, err)
	}
	if !is.exists {
		b.createTable(t, book)
		repairs.Rebuilt = append(repairs.Rebuilt, f)
	}
	for _, c := range is.stale {
		b.refill(t, c)
		repairs.Chains++
	}
	for _, c := range chains {
		if !is.shapes[c.String()] {
			b.shape(t, book, c)
			repairs.Chains++
		}
	}
	for _, w := range is.leftover {
		b.dropShape(t, w)
		repairs.Chains++
	}
	for _, d := range difference(is.elements, append(byMap(f, want.Elements), policiesByMap(f, want.Policies)...)) {
		b.deleteElements(t, d.name, d.extra)
		b.addElements(t, d.name, d.missing)
		repairs.Deleted += len(d.extra)
		repairs.Added += len(d.missing)
	}
	return nil
}

// Drifted reports whether anybody wrote to nftables since our last write. It costs one small message however large the tables are. Writers to
// other tables count as well: a look at ours is then due, but need not find anything.
func (k *Kernel) Drifted() (bool, error) {
	now, err := generation(k.counter)
	if err != nil {
		return false, errors.Join(err, k.Close(), k.open())
	}
	return now != k.generation, nil
}

// Cleanup removes both tables.
func (k *Kernel) Cleanup() error {
	return k.transaction(func(b *batch) {
		for _, f := range k.families {
			tables, err := k.conn.ListTablesOfFamily(table(f).Family)
			b.note(err)
			for _, t := range tables {
				if t.Name == TableName {
					b.conn.DelTable(table(f))
				}
			}
		}
	})
}

// transaction sends what write collects as one batch.
func (k *Kernel) transaction(write func(*batch)) error {
	err := k.try(write)
	if err != nil {
		return errors.Join(err, k.Close(), k.open())
	}
	return nil
}

// try compares the generation before and after to tell whether somebody else wrote in between; if so the next Drifted says true.
func (k *Kernel) try(write func(*batch)) error {
	before, err := generation(k.counter)
	if err != nil {
		return err
	}
	b := &batch{conn: k.conn}
	write(b)
	if b.err != nil {
		return b.err
	}
	if err := k.socket.SetReadDeadline(time.Now().Add(replyTimeout)); err != nil {
		return fmt.Errorf("set read deadline: %w", err)
	}
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("nftables transaction: %w", err)
	}
	if err := k.socket.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("set read deadline: %w", err)
	}
	after, err := generation(k.counter)
	if err != nil {
		return err
	}
	if k.generation = after; after != before && after != before+1 {
		k.generation = before // never equal to what is there now
	}
	return nil
}
