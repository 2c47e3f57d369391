package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Table is the name of the nftables table that holds all rules of this package.
const Table = "hardway-pods"

// program replaces the table in one transaction by what c and the attached pods need:
//
//	map anyaddr  { proto . port : pod ip . port }           host ports on every address
//	map oneaddr  { addr . proto . port : pod ip . port }    host ports on one address
//	set loops    { pod ip . pod ip }                        pods with host ports, talking to themselves
//	chain prerouting, output   nat: to local addresses: dnat by oneaddr, then by anyaddr
//	chain postrouting          nat: masquerade loops, and what pods send out of the cluster
//	chain quiet                drops the ICMP redirects that routing between pods would cause
func program(c Config, pods []attachment) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: Table}
	conn.AddTable(t) // so that there is one to delete
	conn.DelTable(t)
	conn.AddTable(t)
	p := &programmer{conn: conn, table: t, cfg: c}
	if err := p.sets(pods); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	p.chains()
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: write table %s: %w", Table, err)
	}
	return nil
}

// unprogram removes the table.
func unprogram() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: Table}
	conn.AddTable(t)
	conn.DelTable(t)
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: remove table %s: %w", Table, err)
	}
	return nil
}

type programmer struct {
	conn                    *nftables.Conn
	table                   *nftables.Table
	cfg                     Config
	anyaddr, oneaddr, loops *nftables.Set
}

// sets makes the maps with one element per host port.
func (p *programmer) sets(pods []attachment) error {
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	p.anyaddr = &nftables.Set{Table: p.table, Name: "anyaddr", IsMap: true, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), DataType: target}
	p.oneaddr = &nftables.Set{Table: p.table, Name: "oneaddr", IsMap: true, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService), DataType: target}
	p.loops = &nftables.Set{Table: p.table, Name: "loops", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)}
	var anyE, oneE, loopE []nftables.SetElement
	for _, pod := range pods {
		ip := addr4(pod.IP)
		if len(pod.HostPorts) > 0 {
			loopE = append(loopE, nftables.SetElement{Key: append(addr4(pod.IP), ip...)})
		}
		for _, h := range pod.HostPorts {
			proto, err := protocolNumber(h.Protocol)
			if err != nil {
				return err
			}
			e := nftables.SetElement{Key: append(word(proto), port(h.HostPort)...), Val: append(addr4(pod.IP), port(h.ContainerPort)...)}
			if !h.HostIP.IsValid() || h.HostIP.IsUnspecified() {
				anyE = append(anyE, e)
				continue
			}
			if !h.HostIP.Is4() {
				return fmt.Errorf("host port %d: host IP %s: only IPv4 is supported", h.HostPort, h.HostIP)
			}
			e.Key = append(addr4(h.HostIP), e.Key...)
			oneE = append(oneE, e)
		}
	}
	return errors.Join(p.conn.AddSet(p.anyaddr, anyE), p.conn.AddSet(p.oneaddr, oneE), p.conn.AddSet(p.loops, loopE))
}

// Elements of a concatenation fill whole words.
func word(b byte) []byte { return []byte{b, 0, 0, 0} }

func port(n uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, n), 0, 0) }

func addr4(ip netip.Addr) []byte { b := ip.Unmap().As4(); return b[:] }

func protocolNumber(name string) (byte, error) {
	switch strings.ToUpper(name) {
	case "", "TCP":
		return unix.IPPROTO_TCP, nil
	case "UDP":
		return unix.IPPROTO_UDP, nil
	case "SCTP":
		return unix.IPPROTO_SCTP, nil
	}
	return 0, fmt.Errorf("host port protocol %q: must be TCP, UDP or SCTP", name)
}

// Registers of the nftables machine: 1 is 16 bytes wide and the same as words 8 to 11.
const (
	reg   = 1
	word0 = 8
	word1 = 9
	word2 = 10
)

func (p *programmer) chains() {
	accept := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return p.conn.AddChain(&nftables.Chain{Table: p.table, Name: name, Type: kind, Hooknum: hook, Priority: prio, Policy: &accept})
	}
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	quiet := chain("quiet", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)

	for _, m := range []*nftables.Set{p.oneaddr, p.anyaddr} {
		p.rule(pre, join(notLoopback(destination(reg)), toLocal(), p.lookUp(m, m == p.oneaddr)))
		p.rule(out, join(notLoopback(source(reg)), toLocal(), p.lookUp(m, m == p.oneaddr)))
	}
	p.rule(post, []expr.Any{
		source(word0), destination(word1), &expr.Lookup{SourceRegister: reg, SetName: p.loops.Name, SetID: p.loops.ID}, &expr.Masq{},
	})
	p.rule(post, join(
		inside(source(reg), p.cfg.PodCIDR, expr.CmpOpEq),
		inside(destination(reg), p.cfg.ClusterCIDR, expr.CmpOpNeq),
		[]expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: ifname(p.cfg.Bridge)},
			&expr.Masq{},
		}))
	p.rule(quiet, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: ifname(p.cfg.Bridge)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{unix.IPPROTO_ICMP}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{icmpRedirect}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	})
}

const icmpRedirect = 5

func (p *programmer) rule(c *nftables.Chain, e []expr.Any) {
	p.conn.AddRule(&nftables.Rule{Table: p.table, Chain: c, Exprs: e})
}

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func source(to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

func destination(to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

// inside compares the loaded address with a range.
func inside(load expr.Any, r netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-r.Bits()))
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: mask, Xor: binaryutil.NativeEndian.PutUint32(0)},
		&expr.Cmp{Op: op, Register: reg, Data: addr4(r.Addr())},
	}
}

// notLoopback leaves 127.0.0.0/8 alone. What comes in for it from elsewhere is none of ours. What the node sends to it
// can go to a pod only from another address of the node: a packet from 127.0.0.1 cannot be routed to a pod unless the
// kernel's route_localnet is on, which would open the node's own loopback services to its neighbours.
func notLoopback(load expr.Any) []expr.Any {
	return inside(load, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpNeq)
}

// toLocal matches packets for an address of the node.
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// lookUp sends a packet where a map says, if it says anything.
func (p *programmer) lookUp(m *nftables.Set, withAddr bool) []expr.Any {
	var load []expr.Any
	protoAt, portAt := uint32(word0), uint32(word1)
	if withAddr {
		load, protoAt, portAt = append(load, destination(word0)), word1, word2
	}
	return append(load,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protoAt},
		&expr.Payload{DestRegister: portAt, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg, RegProtoMin: word1},
	)
}

// ifname is an interface name as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
