package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"hardway/netproxy/netlab"
	"hardway/netproxy/plan"
	"hardway/netproxy/policy"
	"hardway/netproxy/state"
)

// bench is a lab with a planner and a kernel that follow the services given to it.
type bench struct {
	*netlab.Lab
	t        *testing.T
	kernel   *Kernel
	planner  *plan.Planner
	policies *policy.Planner
	options  Options
}

func newBench(t *testing.T) *bench {
	t.Helper()
	lab := netlab.New(t)
	b := &bench{Lab: lab, t: t, planner: plan.New(state.Node{Name: "node"}), policies: policy.New("node"),
		options: Options{ClusterCIDRs: []netip.Prefix{netlab.PodCIDR, netlab.PodCIDR6}, MasqueradeMark: 0x4000}}
	b.kernel = b.open()
	b.sync()
	return b
}

func (b *bench) open() *Kernel {
	b.t.Helper()
	k, err := Open(b.Node.FD(), []plan.Family{plan.IPv4, plan.IPv6})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = k.Close() })
	return k
}

func (b *bench) sync() Repairs {
	b.t.Helper()
	r, err := b.kernel.Sync(Want{b.options, b.planner.Elements(), b.planner.Chains(), b.policies.Elements()})
	if err != nil {
		b.t.Fatalf("sync: %v", err)
	}
	return r
}

// set gives a service these endpoints, by step.
func (b *bench) set(s state.Service, to ...*netlab.Space) {
	b.t.Helper()
	b.setEndpoints(s, endpoints(to...))
}

func endpoints(of ...*netlab.Space) []state.Endpoint {
	var out []state.Endpoint
	for _, p := range of {
		out = append(out, state.Endpoint{Addr: p.Addr, Node: "node", Ready: true, Serving: true})
	}
	return out
}

func (b *bench) setEndpoints(s state.Service, e []state.Endpoint) {
	b.t.Helper()
	facts := state.Facts{Service: &s}
	for _, p := range s.Ports {
		facts.Slices = append(facts.Slices, state.Slice{Ports: []state.SlicePort{{Name: p.Name, Protocol: p.Protocol, Port: 8000 + p.Port}}, Endpoints: e})
	}
	b.step(state.Change{Name: s.Name, Facts: facts})
}

func (b *bench) step(c ...state.Change) {
	b.t.Helper()
	if err := b.kernel.Apply(b.options, Change{Services: b.planner.Step(state.Changes{Services: c})}); err != nil {
		b.t.Fatalf("apply: %v\n%s", err, b.listing())
	}
}

// listing is what nft prints, where it is installed; for reading failures only.
func (b *bench) listing() string {
	if os.Getenv("LISTING") == "" {
		return "(set LISTING=1 to see the rules)"
	}
	var out []byte
	b.Node.Do(func() { out, _ = exec.Command("nft", "list", "ruleset").CombinedOutput() })
	return string(out)
}

// wantTCP makes several connections and checks who answers.
func (b *bench) wantTCP(from *netlab.Space, to string, servers ...*netlab.Space) (client string) {
	b.t.Helper()
	seen, want := map[string]bool{}, map[string]bool{}
	for _, s := range servers {
		want[s.Name] = true
	}
	for range 20 * len(servers) {
		server, c, err := from.AskTCP(to)
		if err != nil {
			b.t.Fatalf("from %s to %s: %v\n%s", from.Name, to, err, b.listing())
		}
		if !want[server] {
			b.t.Fatalf("from %s to %s: %s answered", from.Name, to, server)
		}
		seen[server], client = true, c
	}
	if len(seen) != len(want) {
		b.t.Fatalf("from %s to %s: %v answered, want all of %v", from.Name, to, seen, want)
	}
	return client
}

func (b *bench) wantRefused(from *netlab.Space, to string) {
	b.t.Helper()
	start := time.Now()
	_, _, err := from.AskTCP(to)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		b.t.Fatalf("from %s to %s: got %v, want connection refused\n%s", from.Name, to, err, b.listing())
	}
	if took := time.Since(start); took > time.Second {
		b.t.Fatalf("from %s to %s: refused only after %v", from.Name, to, took)
	}
}

func (b *bench) wantSilence(from *netlab.Space, to string) {
	b.t.Helper()
	if _, _, err := from.AskTCP(to); !os.IsTimeout(err) {
		b.t.Fatalf("from %s to %s: got %v, want a timeout", from.Name, to, err)
	}
}

var vip = netip.MustParseAddr("10.32.0.20")

// web is "default/<name>" on vip, with TCP port 80 and node port 30080.
func web(name string) state.Service {
	return state.Service{Name: state.Name{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{vip},
		Ports: []state.Port{{Name: "http", Protocol: state.TCP, Port: 80, NodePort: 30080}}}
}

func TestClusterIP(t *testing.T) {
	b := newBench(t)
	one, two, client := b.Pod(), b.Pod(), b.Pod()
	for _, p := range []*netlab.Space{one, two} {
		p.ServeTCP(8080)
	}
	b.set(web("web"), one, two)
	to := "10.32.0.20:80"
	if saw := b.wantTCP(client, to, one, two); saw != client.Addr.String() {
		t.Errorf("the endpoint saw %s, want the pod itself: pods are not masqueraded", saw)
	}
	b.wantTCP(b.Node, to, one, two)
	b.set(web("web"), two)
	b.wantTCP(client, to, two)
	b.wantTCP(b.Node, to, two)
	if saw := b.wantTCP(two, to, two); saw == two.Addr.String() {
		t.Errorf("an endpoint that reached itself saw its own address")
	}
}

func TestNodePort(t *testing.T) {
	b := newBench(t)
	one, two, client := b.Pod(), b.Pod(), b.Pod()
	for _, p := range []*netlab.Space{one, two} {
		p.ServeTCP(8080)
	}
	b.set(web("web"), one, two)
	for _, to := range []string{"192.168.77.1:30080", "10.200.0.1:30080"} {
		if saw := b.wantTCP(b.Outside, "192.168.77.1:30080", one, two); saw == b.Outside.Addr.String() {
			t.Errorf("the endpoint saw %s, want the node: the policy is Cluster", saw)
		}
		b.wantTCP(client, to, one, two)
		b.wantTCP(b.Node, to, one, two)
	}
	b.wantRefused(b.Node, "127.0.0.1:30080")
	b.set(web("web"))
	b.wantRefused(b.Outside, "192.168.77.1:30080")
	b.wantRefused(client, "192.168.77.1:30080")
	b.wantRefused(b.Node, "192.168.77.1:30080")
}

func TestRefusal(t *testing.T) {
	b := newBench(t)
	one, client := b.Pod(), b.Pod()
	one.ServeTCP(8080)
	b.set(web("web"))
	for _, from := range []*netlab.Space{client, b.Node} {
		b.wantRefused(from, "10.32.0.20:80")
		b.wantRefused(from, "10.32.0.20:81")
	}
	b.set(web("web"), one)
	for _, from := range []*netlab.Space{client, b.Node} {
		b.wantTCP(from, "10.32.0.20:80", one)
		b.wantRefused(from, "10.32.0.20:81")
	}
	b.step(state.Change{Name: web("web").Name})
	if left := b.planner.Elements(); len(left) != 0 {
		t.Errorf("left after the service went: %v", left)
	}
}

func TestAffinity(t *testing.T) {
	b := newBench(t)
	one, two, three := b.Pod(), b.Pod(), b.Pod()
	for _, p := range []*netlab.Space{one, two, three} {
		p.ServeTCP(8080)
	}
	s := web("web")
	s.Affinity = 3 * time.Hour
	b.set(s, one, two, three)
	byName := map[string]*netlab.Space{one.Name: one, two.Name: two, three.Name: three}
	for _, from := range []*netlab.Space{b.Node, one, b.Outside} {
		to := "10.32.0.20:80"
		if from == b.Outside {
			to = "192.168.77.1:30080"
		}
		first, _, err := from.AskTCP(to)
		if err != nil {
			t.Fatalf("from %s: %v\n%s", from.Name, err, b.listing())
		}
		b.wantTCP(from, to, byName[first])
	}
	first, _, _ := b.Node.AskTCP("10.32.0.20:80")
	var others []*netlab.Space
	for name, p := range byName {
		if name != first {
			others = append(others, p)
		}
	}
	b.set(s, others...)
	second, _, err := b.Node.AskTCP("10.32.0.20:80")
	if err != nil || second == first {
		t.Fatalf("after its endpoint went, a client got %s, %v\n%s", second, err, b.listing())
	}
	b.wantTCP(b.Node, "10.32.0.20:80", byName[second])
	b.set(s, one, two, three)
	b.wantTCP(b.Node, "10.32.0.20:80", byName[second])
}

func TestIPv6(t *testing.T) {
	b := newBench(t)
	one, two, client := b.Pod(), b.Pod(), b.Pod()
	var all []state.Endpoint
	for _, p := range []*netlab.Space{one, two} {
		p.ServeTCP(8080)
		all = append(all, state.Endpoint{Addr: p.Addr6, Node: "node", Ready: true, Serving: true})
	}
	s := web("web")
	s.ClusterIPs = []netip.Addr{netip.MustParseAddr("fd00:32::20")}
	b.setEndpoints(s, all)
	const vip, nodePort = "[fd00:32::20]:80", "[fd00:77::1]:30080"
	if saw := b.wantTCP(client, vip, one, two); saw != client.Addr6.String() {
		t.Errorf("the endpoint saw %s, want the pod itself", saw)
	}
	b.wantTCP(b.Node, vip, one, two)
	if saw := b.wantTCP(b.Outside, nodePort, one, two); saw == b.Outside.Addr6.String() {
		t.Errorf("the endpoint saw %s, want the node", saw)
	}
	b.wantRefused(client, "[fd00:32::20]:81")
	b.setEndpoints(s, all[1:])
	b.wantTCP(two, vip, two)
	s.Affinity, s.ExternalLocal = time.Hour, true
	b.setEndpoints(s, all)
	first, _, err := client.AskTCP(vip)
	if err != nil {
		t.Fatal(err)
	}
	b.wantTCP(client, vip, map[string]*netlab.Space{one.Name: one, two.Name: two}[first])
	if _, saw, err := b.Outside.AskTCP(nodePort); err != nil || saw != b.Outside.Addr6.String() {
		t.Errorf("with a local policy the endpoint saw %s, %v; want the client", saw, err)
	}
	b.setEndpoints(s, nil)
	for _, from := range []*netlab.Space{client, b.Node} {
		b.wantRefused(from, vip)
	}
	if r := b.sync(); r.Any() {
		t.Errorf("a second look found %+v to repair", r)
	}
}

// TestListing has nft, where it is installed, print the tables: operators do, and the tool must not fail.
func TestListing(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("SKIPPED: nft is not installed")
	}
	b := newBench(t)
	s := web("web")
	s.Affinity, s.ExternalLocal, s.ExternalIPs = time.Hour, true, []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
	b.set(s, b.Pod(), b.Pod())
	b.Node.Do(func() {
		out, err := exec.Command(nft, "list", "ruleset").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "10.32.0.20 . tcp . 80 : ") {
			t.Errorf("nft list ruleset: %v\n%s", err, out)
		}
	})
}

func TestLocalPolicies(t *testing.T) {
	b := newBench(t)
	here, there, client := b.Pod(), b.Pod(), b.Pod()
	here.ServeTCP(8080)
	there.ServeTCP(8080)
	both := endpoints(here, there)
	both[1].Node = "elsewhere" // reachable, but not on this node
	s := web("web")
	s.ExternalLocal = true
	b.setEndpoints(s, both)
	if saw := b.wantTCP(b.Outside, "192.168.77.1:30080", here); saw != b.Outside.Addr.String() {
		t.Errorf("the endpoint saw %s, want the client's own address", saw)
	}
	b.wantTCP(client, "192.168.77.1:30080", here, there)
	b.wantTCP(b.Node, "192.168.77.1:30080", here, there)
	b.wantTCP(client, "10.32.0.20:80", here, there)
	b.setEndpoints(s, both[1:])
	b.wantSilence(b.Outside, "192.168.77.1:30080")
	b.wantTCP(client, "192.168.77.1:30080", there)

	s.InternalLocal = true
	b.setEndpoints(s, both)
	b.wantTCP(client, "10.32.0.20:80", here)
	b.setEndpoints(s, both[1:])
	b.wantSilence(client, "10.32.0.20:80")
	b.setEndpoints(s, nil)
	b.wantRefused(client, "10.32.0.20:80")
}

func TestLoadBalancerSourceRanges(t *testing.T) {
	b := newBench(t)
	one := b.Pod()
	one.ServeTCP(8080)
	s := web("web")
	s.ExternalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	b.set(s, one)
	b.Outside.Do(func() { command(t, "ip", "route", "add", "203.0.113.0/24", "via", "192.168.77.1") })
	b.wantTCP(b.Outside, "203.0.113.7:80", one)
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.168.77.0/30"), netip.MustParsePrefix("10.0.0.0/8")}
	b.set(s, one)
	b.wantTCP(b.Outside, "203.0.113.7:80", one)
	if r := b.sync(); r.Any() {
		t.Errorf("a second look found %+v to repair", r)
	}
	s.SourceRanges = s.SourceRanges[1:]
	b.set(s, one)
	b.wantSilence(b.Outside, "203.0.113.7:80")
}

func TestRestart(t *testing.T) {
	b := newBench(t)
	one, two, client := b.Pod(), b.Pod(), b.Pod()
	for _, p := range []*netlab.Space{one, two} {
		p.ServeTCP(8080)
	}
	s := web("web")
	b.set(s, one, two)
	conn, err := client.DialTCP("10.32.0.20:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	b.kernel = b.open()
	if r := b.sync(); r.Any() {
		t.Errorf("a restart found %+v to do", r)
	}
	if err := conn.Echo("still there?"); err != nil {
		t.Errorf("an established connection after a restart: %v", err)
	}

	// While nobody looked, one endpoint went and another service came.
	b.planner = plan.New(state.Node{Name: "node"})
	other := web("other")
	other.ClusterIPs, other.Ports[0].NodePort = []netip.Addr{netip.MustParseAddr("10.32.0.21")}, 0
	for _, s := range []state.Service{s, other} {
		b.planner.Step(state.Changes{Services: []state.Change{{Name: s.Name, Facts: state.Facts{Service: &s, Slices: []state.Slice{{
			Ports: []state.SlicePort{{Name: "http", Protocol: state.TCP, Port: 8080}}, Endpoints: endpoints(two)}}}}}})
	}
	b.kernel = b.open()
	if r := b.sync(); !r.Any() || len(r.Rebuilt) > 0 {
		t.Errorf("a restart with changes did %+v, want a repair of elements", r)
	}
	b.wantTCP(client, "10.32.0.20:80", two)
	b.wantTCP(client, "10.32.0.21:80", two)
	if err := conn.Echo("and now?"); err != nil {
		t.Errorf("an established connection after a restart with changes: %v", err)
	}
}

func TestForeignEdits(t *testing.T) {
	b := newBench(t)
	one, client := b.Pod(), b.Pod()
	one.ServeTCP(8080)
	s := web("web")
	s.Affinity = time.Hour
	b.set(s, one)
	edit := func(f func(c *nftables.Conn, t *nftables.Table)) func() {
		return func() {
			c, err := nftables.New(nftables.WithNetNSFd(b.Node.FD()))
			if err != nil {
				t.Fatal(err)
			}
			f(c, table(plan.IPv4))
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, break_ := range map[string]func(){
		"table deleted":      edit(func(c *nftables.Conn, t *nftables.Table) { c.DelTable(t) }),
		"everything deleted": edit(func(c *nftables.Conn, _ *nftables.Table) { c.FlushRuleset() }),
		"chain emptied": edit(func(c *nftables.Conn, t *nftables.Table) {
			c.FlushChain(&nftables.Chain{Name: chainServices, Table: t})
		}),
		"rule added": edit(func(c *nftables.Conn, t *nftables.Table) {
			c.InsertRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: chainServices}, Exprs: (&program{}).verdict(-1, "").rule.exprs})
		}),
		"map emptied":   edit(func(c *nftables.Conn, t *nftables.Table) { c.FlushSet(&nftables.Set{Name: "vips", Table: t}) }),
		"foreign chain": edit(func(c *nftables.Conn, t *nftables.Table) { c.AddChain(&nftables.Chain{Name: "mine", Table: t}) }),
		"foreign set": edit(func(c *nftables.Conn, t *nftables.Table) {
			_ = c.AddSet(&nftables.Set{Name: "mine", Table: t, KeyType: nftables.TypeIPAddr}, nil)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			if drifted, err := b.kernel.Drifted(); drifted || err != nil {
				t.Fatalf("drifted before anybody did anything: %v, %v", drifted, err)
			}
			break_()
			if drifted, err := b.kernel.Drifted(); !drifted || err != nil {
				t.Errorf("the edit was not noticed: %v, %v", drifted, err)
			}
			if r := b.sync(); !r.Any() {
				t.Errorf("nothing was repaired")
			}
			b.wantTCP(client, "10.32.0.20:80", one)
			if r := b.sync(); r.Any() {
				t.Errorf("a second look found %+v to repair", r)
			}
		})
	}
}

func TestCleanup(t *testing.T) {
	b := newBench(t)
	b.set(web("web"), b.Pod())
	for range 2 {
		if err := b.kernel.Cleanup(); err != nil {
			t.Fatal(err)
		}
		tables, err := b.kernel.conn.ListTables()
		if err != nil || len(tables) > 0 {
			t.Errorf("left after clean-up: %v, %v", tables, err)
		}
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	b := newBench(t)
	one := b.Pod()
	one.ServeTCP(8080)
	b.set(web("web"), one)
	good := plan.Element{Key: plan.Key{Map: plan.ClusterIPs, Family: plan.IPv4, Addr: netip.MustParseAddr("10.32.0.99")}}
	absent := plan.Element{Key: plan.Key{Map: plan.ClusterIPs, Family: plan.IPv4, Addr: netip.MustParseAddr("10.32.0.98")}}
	if err := b.kernel.Apply(b.options, Change{Services: plan.Step{Add: []plan.Element{good}, Delete: []plan.Element{absent}}}); err == nil {
		t.Fatal("deleting an element that is not there did not fail")
	}
	if r := b.sync(); r.Any() {
		t.Errorf("the failed step left %+v", r)
	}
}

func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: short")
	}
	b := newBench(t)
	const services = 20000
	var changes []state.Change
	for i := range services {
		changes = append(changes, state.Change{Name: state.Name{Namespace: "scale", Name: fmt.Sprint(i)}, Facts: many(i, 3)})
	}
	b.timed("plan 20,000 services with 3 endpoints", func() { b.planner.Step(state.Changes{Services: changes}) })
	b.timed("write them", func() { b.sync() })
	b.timed("look, nothing to do", func() {
		if r := b.sync(); r.Any() {
			t.Errorf("found %+v", r)
		}
	})
	var worst, sum time.Duration
	for i := range 50 {
		start := time.Now()
		b.step(state.Change{Name: state.Name{Namespace: "scale", Name: fmt.Sprint(i)}, Facts: many(i, 4+i%2)})
		took := time.Since(start)
		worst, sum = max(worst, took), sum+took
	}
	t.Logf("one service gets an endpoint: mean %v, worst %v", sum/50, worst)
}

func (b *bench) timed(what string, f func()) {
	b.t.Helper()
	start := time.Now()
	f()
	b.t.Logf("%s: %v", what, time.Since(start).Round(time.Millisecond))
}

// many is service number i with n endpoints.
func many(i, n int) state.Facts {
	s := state.Service{Name: state.Name{Namespace: "scale", Name: fmt.Sprint(i)}, Ports: []state.Port{{Protocol: state.TCP, Port: 80}},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})}}
	slice := state.Slice{Ports: []state.SlicePort{{Protocol: state.TCP, Port: 8080}}}
	for j := range n {
		slice.Endpoints = append(slice.Endpoints, state.Endpoint{Ready: true, Serving: true, Node: "elsewhere",
			Addr: netip.AddrFrom4([4]byte{10, 201 + byte(j), byte(i >> 8), byte(i)})})
	}
	return state.Facts{Service: &s, Slices: []state.Slice{slice}}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
