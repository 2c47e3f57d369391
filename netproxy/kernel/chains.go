package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"hardway/netproxy/plan"
)

// Options are the parts of the rules that do not come from services.
type Options struct {
	// ClusterCIDRs are the pods' networks. Traffic to cluster IPs from elsewhere is masqueraded; with none given, no such traffic is.
	ClusterCIDRs []netip.Prefix
	// MasqueradeAll masquerades all traffic to cluster IPs.
	MasqueradeAll bool
	// MasqueradeMark is the packet mark bit that asks for masquerading, as one bit set; upstream's default is 0x4000.
	MasqueradeMark uint32
	// NodePorts are the networks of the node addresses that offer node ports; none means all addresses of the node but loopback.
	NodePorts []netip.Prefix
}

// Equal reports whether two options make the same rules.
func (o Options) Equal(p Options) bool {
	return o.MasqueradeAll == p.MasqueradeAll && o.MasqueradeMark == p.MasqueradeMark && slices.Equal(o.ClusterCIDRs, p.ClusterCIDRs) &&
		slices.Equal(o.NodePorts, p.NodePorts)
}

// Names of the fixed chains.
const (
	chainServices  = "services"
	chainNodePorts = "node-ports"
	chainOffNet    = "off-cluster"
	chainUnserved  = "unserved"
	chainUnservedN = "unserved-node-ports"
	chainRefusal   = "refusal"
)

// chain is a chain with its rules. Chains without a hook are reached from others.
type chain struct {
	name     string
	hook     *nftables.ChainHook
	kind     nftables.ChainType
	priority *nftables.ChainPriority
	rules    []rule
}

// rulebook writes the rules of one family.
type rulebook struct {
	Options
	family plan.Family
}

func (b rulebook) rule(text string) *program {
	return &program{family: b.family, rule: rule{text: text}}
}

// fixed lists the chains that exist whatever the services are, callees before callers.
func (b rulebook) fixed() []chain {
	filter, nat := nftables.ChainTypeFilter, nftables.ChainTypeNAT
	enter := func(to string) []rule { return []rule{b.rule("everything").verdict(expr.VerdictJump, to).rule} }
	return append(b.policies(), []chain{
		{name: chainRefusal, rules: b.reject()},
		{name: chainUnservedN, rules: []rule{b.rule("node ports without endpoints").entry(plan.NodePorts).verdictOf(refusalsSet, b.at().shape()).rule}},
		{name: chainUnserved, rules: b.refuse()},
		{name: chainOffNet, rules: b.offCluster()},
		{name: chainNodePorts, rules: b.nodePorts()},
		{name: chainServices, rules: b.services()},
		{name: "nat-prerouting", hook: nftables.ChainHookPrerouting, kind: nat, priority: nftables.ChainPriorityNATDest, rules: enter(chainServices)},
		{name: "nat-output", hook: nftables.ChainHookOutput, kind: nat, priority: nftables.ChainPriorityNATDest, rules: enter(chainServices)},
		{name: "nat-postrouting", hook: nftables.ChainHookPostrouting, kind: nat, priority: nftables.ChainPriorityNATSource, rules: b.postrouting()},
		{name: "filter-prerouting", hook: nftables.ChainHookPrerouting, kind: filter, priority: nftables.ChainPriorityFilter, rules: b.new(chainUnserved)},
		{name: "filter-output", hook: nftables.ChainHookOutput, kind: filter, priority: nftables.ChainPriorityFilter, rules: b.new(chainUnserved)},
	}...)
}

// services sends every new connection to a service on to the chain of its shape.
func (b rulebook) services() []rule {
	rules := b.inside(plan.InsideVIPs)
	if b.MasqueradeAll || len(b.ClusterCIDRs) > 0 {
		rules = append(rules, b.rule("to a cluster IP").destination(b.reg0()).in(plan.ClusterIPs.String(), 0, false).
			verdict(expr.VerdictJump, chainOffNet).rule)
	}
	rules = append(rules, b.rule("to a cluster IP or an external address").entry(plan.VIPs).balance(plan.VIPs).rule)
	return append(rules, b.toNodePorts(chainNodePorts)...)
}

// at tells where things are in the rules of this family.
func (b rulebook) at() *program { return &program{family: b.family} }

func (b rulebook) reg0() uint32 { return b.at().reg(0) }

// toNodePorts enters a chain for packets to the node's own addresses that offer node ports. Loopback never does: an answer could not leave it.
func (b rulebook) toNodePorts(chain string) []rule {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if b.family == plan.IPv6 {
		loopback = netip.MustParsePrefix("::1/128")
	}
	var rules []rule
	for _, n := range b.NodePorts {
		if plan.FamilyOf(n.Addr()) == b.family {
			rules = append(rules, b.rule("to the node, at "+n.String()).destination(b.reg0()).within(n, 0, false).local(false).
				verdict(expr.VerdictGoto, chain).rule)
		}
	}
	if len(b.NodePorts) > 0 {
		return rules
	}
	return []rule{b.rule("to the node").destination(b.reg0()).within(loopback, 0, true).local(false).verdict(expr.VerdictGoto, chain).rule}
}

// nodePorts is services for packets to an address of the node.
func (b rulebook) nodePorts() []rule {
	return append(b.inside(plan.InsideNodePorts), b.rule("to a node port").entry(plan.NodePorts).balance(plan.NodePorts).rule)
}

// inside lets clients within the cluster reach services with externalTrafficPolicy Local at their external addresses on any node: the policy is
// there to keep the addresses of clients outside.
func (b rulebook) inside(m plan.Map) []rule {
	var rules []rule
	for _, n := range b.cidrs() {
		p := b.rule("pods, to an external address with a local policy").entry(m)
		rules = append(rules, p.source(p.reg(p.after())).within(n, p.after(), false).balance(m).rule)
	}
	return append(rules,
		b.rule("this node, likewise: masquerade").entry(m).local(true).mark(b.MasqueradeMark).rule,
		b.rule("this node, likewise").entry(m).local(true).balance(m).rule)
}

// offCluster marks packets to cluster IPs that do not come from pods: their answers must come back through this node.
func (b rulebook) offCluster() []rule {
	var rules []rule
	if !b.MasqueradeAll {
		for _, n := range b.cidrs() {
			rules = append(rules, b.rule("from pods").source(b.reg0()).within(n, 0, false).verdict(expr.VerdictReturn, "").rule)
		}
	}
	return append(rules, b.rule("from elsewhere: masquerade").mark(b.MasqueradeMark).rule)
}

func (b rulebook) cidrs() []netip.Prefix {
	var out []netip.Prefix
	for _, n := range b.ClusterCIDRs {
		if plan.FamilyOf(n.Addr()) == b.family {
			out = append(out, n)
		}
	}
	return out
}

// refuse answers packets that are still addressed to a service after DNAT had its turn.
func (b rulebook) refuse() []rule {
	return append([]rule{
		b.rule("addresses without endpoints").entry(plan.VIPs).verdictOf(refusalsSet, b.at().shape()).rule,
		b.rule("ports that the service does not have").destination(b.reg0()).in(plan.ClusterIPs.String(), 0, false).
			verdict(expr.VerdictGoto, chainRefusal).rule,
	}, b.toNodePorts(chainUnservedN)...)
}

// refusals are the elements of the verdict map for entries without endpoints.
func refusals() []nftables.SetElement {
	return []nftables.SetElement{
		{Key: shapeKey(plan.Shape{}), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainRefusal}},
		{Key: shapeKey(plan.Shape{Drop: true}), VerdictData: &expr.Verdict{Kind: expr.VerdictDrop}},
	}
}

// reject tells the client at once. A TCP reset, unlike an ICMP error, is not held back by the kernel's rate limit.
func (b rulebook) reject() []rule {
	portUnreachable := uint8(3) // ICMP_PORT_UNREACH
	if b.family == plan.IPv6 {
		portUnreachable = 4 // ICMPV6_PORT_UNREACH
	}
	return []rule{
		b.rule("reset").add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: b.reg0()},
			&expr.Cmp{Op: expr.CmpOpEq, Register: b.reg0(), Data: []byte{unix.IPPROTO_TCP}},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}).rule,
		b.rule("port unreachable").add(&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: portUnreachable}).rule,
	}
}

// new calls a chain for the first packet of a connection.
func (b rulebook) new(chain string) []rule {
	return []rule{b.rule("new connections").ctState(expr.CtStateBitNEW).verdict(expr.VerdictJump, chain).rule}
}

// postrouting masquerades what was marked, and endpoints that reach themselves: they would drop packets from their own address.
func (b rulebook) postrouting() []rule {
	r, bit := b.reg0(), b.MasqueradeMark
	marked := b.rule("marked: masquerade").add(&expr.Meta{Key: expr.MetaKeyMARK, Register: r},
		&expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: native(nil, bit), Xor: native(nil, 0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: r, Data: native(nil, 0)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: r},
		&expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: native(nil, ^bit), Xor: native(nil, 0)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: r, SourceRegister: true},
		&expr.Masq{FullyRandom: true})
	p := b.rule("an endpoint to itself: masquerade")
	p.source(p.reg(0)).destination(p.reg(words(b.family))).in(plan.Hairpins.String(), 0, false).add(&expr.Masq{FullyRandom: true})
	return []rule{marked.rule, p.rule}
}

// shape writes the chain that balances entries of one shape.
func (b rulebook) shape(c plan.Chain) chain {
	s, base := c.Shape, uint32(0)
	members, remembered := plan.Members.String(), affinitySet
	if s.Local {
		base, members, remembered = plan.LocalBase, plan.LocalMembers.String(), localAffinitySet
	}
	var rules []rule
	if s.Guarded {
		p := b.rule("from outside the source ranges").entryKey(c.From)
		p.source(p.reg(words(b.family)+2)).in(plan.Sources.String(), 0, true).verdict(expr.VerdictDrop, "")
		rules = append(rules, p.rule)
	}
	if s.Masquerade {
		rules = append(rules, b.rule("masquerade").mark(b.MasqueradeMark).rule)
	}
	if s.Affinity > 0 {
		rules = append(rules,
			b.rule("the endpoint that this client had").entryGroup(c.From).client().find(remembered, b.at().client0(), b.at().after()).
				in(members, b.at().group(), false).remember(remembered, unix.NFT_DYNSET_OP_UPDATE, s.Affinity).dnat().rule,
			b.rule("a new one, remembered").entryGroup(c.From).client().choose(s.N, base, false).remember(remembered, dynsetDelete, 0).
				remember(remembered, unix.NFT_DYNSET_OP_UPDATE, s.Affinity).dnat().rule)
	}
	rules = append(rules, b.rule(fmt.Sprintf("one of %d", s.N)).entryGroup(c.From).choose(s.N, base, false).dnat().rule)
	if s.N > 1 {
		// A packet that looks between the two halves of a change may hold an index that is gone. There is always a first endpoint.
		rules = append(rules, b.rule("the first").entryGroup(c.From).choose(s.N, base, true).dnat().rule)
	}
	return chain{name: c.String(), rules: append(rules, b.rule("none").verdict(expr.VerdictDrop, "").rule)}
}
