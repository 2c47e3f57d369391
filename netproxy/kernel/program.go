package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"hardway/netproxy/plan"
)

// rule is one rule with the comment that it carries in the kernel. The comment is the text for people, then a digest of the expressions; by it a
// later look tells whether the rule is still the one that was put there.
type rule struct {
	text  string
	exprs []expr.Any
}

// userData is the rule's comment as the kernel stores it.
func (r rule) userData(family nftables.TableFamily) ([]byte, error) {
	sum := sha256.New()
	for _, e := range r.exprs {
		b, err := expr.Marshal(byte(family), e)
		if err != nil {
			return nil, fmt.Errorf("marshal rule %q: %w", r.text, err)
		}
		sum.Write(b)
	}
	return userdata.AppendString(nil, userdata.Type(0), r.text+" ["+hex.EncodeToString(sum.Sum(nil)[:4])+"]"), nil
}

// program builds the expressions of one rule for one family.
//
// Registers are 4-byte words. Every rule that deals with a group keeps it at the same place, so that the words around it form the keys of the
// next lookups without copying:
//
//	protocol │ n │ options  │ address │ port              an entry as it is found; n and options say which chain comes next
//	           client │ protocol │ address │ port │ index     there, the protocol goes over the options: now this is the group
//	           client │ protocol │ address │ port │ endpoint (address, port)
//
// The lookups deliberately do not begin at the word where a map put its value: nft, the tool, ends with an assertion when it prints such a
// rule. As it is, nft prints the maps in full and, of rules that pass words from map to map, the comment.
type program struct {
	family plan.Family
	rule   rule
}

func (p *program) reg(i int) uint32 { return unix.NFT_REG32_00 + uint32(i) }

// group is the first word of the group, after the word behind it, shape the first word of the shape that is found with an entry.
func (p *program) group() int { return max(2, words(p.family)) }
func (p *program) after() int { return p.group() + words(p.family) + 2 }
func (p *program) shape() int { return p.group() - 1 }

// scratch is a word that no key uses.
func (p *program) scratch() uint32 { return p.reg(15) }

func (p *program) add(e ...expr.Any) *program {
	p.rule.exprs = append(p.rule.exprs, e...)
	return p
}

func (p *program) payload(base expr.PayloadBase, offset, length int, to uint32) *program {
	return p.add(&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: to, Base: base, Offset: uint32(offset), Len: uint32(length)})
}

// source and destination load an address of the packet.
func (p *program) source(to uint32) *program {
	offset := map[plan.Family]int{plan.IPv4: 12, plan.IPv6: 8}[p.family]
	return p.payload(expr.PayloadBaseNetworkHeader, offset, 4*words(p.family), to)
}

func (p *program) destination(to uint32) *program {
	offset := map[plan.Family]int{plan.IPv4: 16, plan.IPv6: 24}[p.family]
	return p.payload(expr.PayloadBaseNetworkHeader, offset, 4*words(p.family), to)
}

// entryKey loads the key of a map of entries from word 0.
func (p *program) entryKey(m plan.Map) *program {
	at := 0
	if m == plan.VIPs || m == plan.InsideVIPs {
		p.destination(p.reg(0))
		at = words(p.family)
	}
	p.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: p.reg(at)})
	return p.payload(expr.PayloadBaseTransportHeader, 2, 2, p.reg(at+1))
}

// entry finds the packet's entry in a map of entries, or ends the rule.
func (p *program) entry(m plan.Map) *program {
	return p.entryKey(m).find(m.String(), 0, p.group()-2)
}

// entryGroup is entry, then makes the group of it. The shape is lost.
func (p *program) entryGroup(m plan.Map) *program {
	return p.entry(m).add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: p.reg(p.group())})
}

// find looks a key up in a map and puts the value into words; a miss ends the rule.
func (p *program) find(name string, key, to int) *program {
	return p.add(&expr.Lookup{SourceRegister: p.reg(key), SetName: name, DestRegister: p.reg(to), IsDestRegSet: true})
}

// in ends the rule unless (or, not, if) the key is in the set.
func (p *program) in(name string, key int, not bool) *program {
	return p.add(&expr.Lookup{SourceRegister: p.reg(key), SetName: name, Invert: not})
}

// verdictOf looks a key up in a verdict map and does what it says.
func (p *program) verdictOf(name string, key int) *program {
	return p.add(&expr.Lookup{SourceRegister: p.reg(key), SetName: name, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true})
}

// balance goes to the chain of the entry that was found.
func (p *program) balance(m plan.Map) *program { return p.verdictOf(shapesOf(m), p.shape()) }

// within ends the rule unless the address in the words from at on is in the network.
func (p *program) within(n netip.Prefix, at int, not bool) *program {
	mask := make([]byte, len(n.Addr().AsSlice()))
	for i := range n.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return p.add(
		&expr.Bitwise{SourceRegister: p.reg(at), DestRegister: p.reg(at), Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))},
		&expr.Cmp{Op: op, Register: p.reg(at), Data: n.Masked().Addr().AsSlice()},
	)
}

// local ends the rule unless the packet's source or destination is an address of this node.
func (p *program) local(source bool) *program {
	return p.add(
		&expr.Fib{Register: p.scratch(), ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source},
		&expr.Cmp{Op: expr.CmpOpEq, Register: p.scratch(), Data: native(nil, unix.RTN_LOCAL)},
	)
}

// mark sets the masquerade bit of the packet mark.
func (p *program) mark(bit uint32) *program {
	return p.add(&expr.Meta{Key: expr.MetaKeyMARK, Register: p.scratch()},
		&expr.Bitwise{SourceRegister: p.scratch(), DestRegister: p.scratch(), Len: 4, Mask: native(nil, ^bit), Xor: native(nil, bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: p.scratch(), SourceRegister: true})
}

// choose puts an index below n, or a fixed one, into the word after the group, and finds that endpoint.
func (p *program) choose(n, base uint32, fixed bool) *program {
	if fixed || n == 1 {
		p.add(&expr.Immediate{Register: p.reg(p.after()), Data: native(nil, base)})
	} else {
		p.add(&expr.Numgen{Register: p.reg(p.after()), Modulus: n, Type: unix.NFT_NG_RANDOM, Offset: base})
	}
	return p.find(plan.Endpoints.String(), p.group(), p.after())
}

// dnat sends the connection to the endpoint in the words after the group.
func (p *program) dnat() *program {
	family := uint32(unix.NFPROTO_IPV4)
	if p.family == plan.IPv6 {
		family = unix.NFPROTO_IPV6
	}
	return p.add(&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: p.reg(p.after()),
		RegProtoMin: p.reg(p.after() + words(p.family)), Specified: true})
}

// client loads the packet's source into the words before the group, which begin at client0.
func (p *program) client() *program { return p.source(p.reg(p.client0())) }
func (p *program) client0() int     { return p.group() - words(p.family) }

// remember notes in an affinity map which endpoint the client has, or forgets it.
func (p *program) remember(name string, op uint32, timeout time.Duration) *program {
	return p.add(&expr.Dynset{SrcRegKey: p.reg(p.client0()), SrcRegData: p.reg(p.after()), SetName: name, Operation: op,
		Timeout: timeout})
}

// dynsetDelete is the operation NFT_DYNSET_OP_DELETE.
const dynsetDelete = 2

func (p *program) verdict(kind expr.VerdictKind, chain string) *program {
	return p.add(&expr.Verdict{Kind: kind, Chain: chain})
}
