package kernel

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"hardway/netproxy/plan"
	"hardway/netproxy/policy"
	"hardway/netproxy/state"
)

// Names of the chains that enforce network policies.
const (
	chainForward = "filter-forward"
	chainIngress = "policy-ingress"
	chainEgress  = "policy-egress"
)

// Words of the registers in rules on policies.
//
//	11 direction │ 12 address                          the key of isolated and classes (there the direction is 0)
//	1 direction  │ 2 group           │ 3 class or address          the key of allowed-pods and allowed-blocks, then
//	1 direction  │ 2 number of ports │ 3 protocol │ 4 port         the key of allowed-ports
//
// The direction is written together with the word before it, and so keys begin where nft, the tool, knows of no expression: it ends with an
// assertion when it prints a key that has the value of a map or an address of a connection in it.
const (
	wordDirection = 1
	wordGroup     = 2
	wordPorts     = 2
	wordPeer      = 3
	wordProtocol  = 3
	wordPort      = 4
	wordOf        = 11
	wordAddress   = 12
)

// Directions of a conntrack entry. The kernel reads one byte, the library writes a word: this is the first byte of it.
const (
	ctOriginal = 0
	ctReply    = 1 << 24
)

// policySets lists the sets and maps of network policies.
func policySets(t *nftables.Table, address nftables.SetDatatype) []*nftables.Set {
	mark, proto, service := nftables.TypeMark, nftables.TypeInetProto, nftables.TypeInetService
	lookup := func(m policy.Map, ranges bool, key ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: t, Name: m.String(), KeyType: nftables.MustConcatSetType(key...), Concatenation: true, Interval: ranges,
			IsMap: m != policy.AllowedPorts}
		if s.IsMap {
			s.DataType = mark
		}
		return s
	}
	return []*nftables.Set{
		lookup(policy.Isolated, false, mark, address),
		lookup(policy.Classes, false, mark, address),
		lookup(policy.AllowedPods, false, mark, mark, mark),
		lookup(policy.AllowedBlocks, true, mark, mark, address),
		lookup(policy.AllowedPorts, true, mark, mark, proto, service),
	}
}

// encodePolicy gives the kernel's form of an element.
func encodePolicy(e policy.Element) nftables.SetElement {
	k, v := e.Key, native(nil, e.Value)
	prefix := func() []byte { return native(native(nil, uint32(k.Direction)), k.Group) }
	switch k.Map {
	case policy.AllowedPods:
		return nftables.SetElement{Key: native(prefix(), k.ID), Val: v}
	case policy.AllowedBlocks:
		return nftables.SetElement{Key: addr(prefix(), k.Addr), KeyEnd: addr(prefix(), k.Last), Val: v}
	case policy.AllowedPorts:
		r := k.Ports
		limit := func(d policy.Direction, p state.Protocol, port uint16) []byte {
			return service(append(native(native(nil, uint32(d)), k.ID), proto(nil, p)...), port)
		}
		return nftables.SetElement{Key: limit(policy.Ingress, r.FirstProtocol, r.First), KeyEnd: limit(policy.Egress, r.LastProtocol, r.Last)}
	default:
		return nftables.SetElement{Key: addr(native(nil, uint32(k.Direction)), k.Addr), Val: v}
	}
}

// policies lists the chains that enforce network policies, callees before callers.
func (b rulebook) policies() []chain {
	return []chain{
		{name: chainIngress, rules: b.judge(policy.Ingress)},
		{name: chainEgress, rules: b.judge(policy.Egress)},
		{name: chainForward, hook: nftables.ChainHookForward, kind: nftables.ChainTypeFilter, priority: nftables.ChainPriorityFilter, rules: b.forward()},
	}
}

// forward sends what isolated pods have to do with on to be judged, established connections included. What conntrack cannot make out has no
// connection to be judged by.
func (b rulebook) forward() []rule {
	unknown := func(text string) *program {
		return b.rule(text).ctState(expr.CtStateBitINVALID | expr.CtStateBitUNTRACKED)
	}
	isolated := policy.Isolated.String()
	self := b.rule("a pod to itself, through a service").
		source(b.reg0()).destination(b.at().reg(words(b.family))).
		in(plan.Hairpins.String(), 0, false).verdict(expr.VerdictReturn, "")
	return []rule{
		unknown("not of a connection, to an isolated pod").destination(b.at().reg(wordAddress)).direction(wordOf, policy.Ingress).find(isolated, wordOf, wordGroup).verdict(expr.VerdictDrop, "").rule,
		unknown("not of a connection, from an isolated pod").source(b.at().reg(wordAddress)).direction(wordOf, policy.Egress).find(isolated, wordOf, wordGroup).verdict(expr.VerdictDrop, "").rule,
		self.rule,
		b.group(policy.Ingress, "to an isolated pod").verdict(expr.VerdictJump, chainIngress).rule,
		b.group(policy.Egress, "from an isolated pod").verdict(expr.VerdictJump, chainEgress).rule,
	}
}

// group finds the group of the pod at the isolated end of the connection, or ends the rule.
func (b rulebook) group(d policy.Direction, text string) *program {
	end := uint32(ctReply)
	if d == policy.Egress {
		end = ctOriginal
	}
	return b.rule(text).direction(wordOf, d).ct(expr.CtKeySRC, end, wordAddress).find(policy.Isolated.String(), wordOf, wordGroup)
}

// judge returns if the connection is allowed, else drops the packet.
func (b rulebook) judge(d policy.Direction) []rule {
	peer := uint32(ctOriginal) // the client
	if d == policy.Egress {
		peer = ctReply
	}
	start := func(text string) *program {
		return b.group(d, text).direction(wordDirection, d)
	}
	end := func(p *program, m policy.Map) rule {
		p.find(m.String(), wordDirection, wordPorts)
		p.add(&expr.Ct{Key: expr.CtKeyPROTOCOL, Register: p.reg(wordProtocol)})
		p.ct(expr.CtKeyPROTOSRC, ctReply, wordPort)
		return p.in(policy.AllowedPorts.String(), wordDirection, false).verdict(expr.VerdictReturn, "").rule
	}
	return []rule{
		end(start("what everybody may").constant(wordPeer, policy.Everybody), policy.AllowedPods),
		end(start("what pods of this class may").direction(wordOf, 0).ct(expr.CtKeySRC, peer, wordAddress).find(policy.Classes.String(), wordOf, wordPeer), policy.AllowedPods),
		end(start("what this address may").ct(expr.CtKeySRC, peer, wordPeer), policy.AllowedBlocks),
		b.rule("nothing else").verdict(expr.VerdictDrop, "").rule,
	}
}

// ct loads something of the connection, of one of its directions.
func (p *program) ct(key expr.CtKey, direction uint32, to int) *program {
	return p.add(&expr.Ct{Key: key, Direction: direction, Register: p.reg(to)})
}

// ctState ends the rule unless the connection is in one of these states.
func (p *program) ctState(bits uint32) *program {
	r := p.scratch()
	return p.add(&expr.Ct{Key: expr.CtKeySTATE, Register: r},
		&expr.Bitwise{SourceRegister: r, DestRegister: r, Len: 4, Mask: native(nil, bits), Xor: native(nil, 0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: r, Data: native(nil, 0)})
}

// constant puts a number into a word.
func (p *program) constant(to int, n uint32) *program {
	return p.add(&expr.Immediate{Register: p.reg(to), Data: native(nil, n)})
}

// direction puts a direction into a word, and nothing into the word before it.
func (p *program) direction(to int, d policy.Direction) *program {
	return p.add(&expr.Immediate{Register: p.reg(to - 1), Data: native(native(nil, 0), uint32(d))})
}
