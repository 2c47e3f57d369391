package chain

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"hardway/dns/chain/cache"
	"hardway/dns/wire"
	"hardway/dns/zone"
)

// Resolver turns packed queries into packed answers. It is safe for concurrent use.
type Resolver struct {
	Zone    *atomic.Pointer[zone.Zone]
	Cluster *Cluster
	Chain   Chain // begins with Cluster
	Cache   *cache.Cache
	Metrics *Metrics
	Log     *zap.Logger

	turns atomic.Uint32
}

// Peer is what matters about a client.
type Peer struct {
	TCP  bool
	Addr netip.Addr
}

// maxTCP is the longest answer that fits a TCP message.
const maxTCP = 65535

func limit(q *wire.Query, p Peer) int {
	if p.TCP {
		return maxTCP
	}
	return q.Size
}

// Now writes the answer to a query into dst, which is empty, if there is one without waiting. An empty answer means that the query deserves none.
// False: the query is for Later. scratch belongs to the caller.
func (r *Resolver) Now(dst, query []byte, scratch *wire.Scratch, p Peer) (out []byte, done bool) {
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(cause)
			out, done = dst[:0], true
		}
	}()
	started := time.Now()
	q, ordinary := wire.Parse(query, scratch)
	if !ordinary {
		return r.odd(dst, query)
	}
	if q.Type == dns.TypeAXFR || q.Type == dns.TypeIXFR {
		return r.finish(wire.Fail(dst, &q, dns.RcodeRefused), &q, p, "none", started), true
	}
	z := r.Zone.Load()
	if e, ok := r.Cache.Get(q.Key, z, started); ok && !(q.Type == dns.TypePTR && e.By == "forward") {
		return r.finish(e.Image.Reply(dst, &q, limit(&q, p), e.Age(started), r.turns.Add(1)), &q, p, e.By, started), true
	}
	name, plain := wire.NameOf(q.Key)
	if !plain {
		return nil, false
	}
	a, chase, err := r.Cluster.At(z, Question{Name: name, Type: q.Type, DO: q.DO})
	switch {
	case err == nil && chase == "":
		return r.reply(dst, &q, p, a, z, started), true
	case q.Type == dns.TypePTR: // not the cluster's after all
		if e, ok := r.Cache.Get(q.Key, z, started); ok {
			return r.finish(e.Image.Reply(dst, &q, limit(&q, p), e.Age(started), 0), &q, p, e.By, started), true
		}
	}
	return nil, false
}

// Later writes the answer to a query that may take time, no more than ctx gives.
func (r *Resolver) Later(ctx context.Context, dst, query []byte, p Peer) (out []byte) {
	started := time.Now()
	var scratch wire.Scratch
	q, ordinary := wire.Parse(query, &scratch)
	if !ordinary {
		return dst // Now has dealt with those
	}
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(cause)
			out = wire.Fail(dst, &q, dns.RcodeServerFailure)
		}
	}()
	name, plain := wire.NameOf(q.Key)
	if !plain {
		// A name with bytes that need escapes: the library knows how.
		var m dns.Msg
		if err := m.Unpack(query); err != nil {
			return r.finish(wire.Fail(dst, &q, dns.RcodeFormatError), &q, p, "none", started)
		}
		name = dns.CanonicalName(m.Question[0].Name)
	}
	z := r.Zone.Load()
	a, err := r.Chain.Handle(ctx, Question{Name: name, Type: q.Type, DO: q.DO})
	if err == nil {
		return r.reply(dst, &q, p, a, z, started)
	}
	if e, ok := r.Cache.Stale(q.Key, started); ok {
		r.Log.Debug("answered from an old answer", zap.String("question", name), zap.Error(err))
		return r.finish(e.Image.Reply(dst, &q, limit(&q, p), e.Age(started), 0), &q, p, e.By, started)
	}
	r.Log.Debug("no answer", zap.String("question", name), zap.Error(err))
	return r.finish(wire.Fail(dst, &q, dns.RcodeServerFailure), &q, p, "none", started)
}

// reply packs an answer, remembers it if it may be, and appends it.
func (r *Resolver) reply(dst []byte, q *wire.Query, p Peer, a Answer, z *zone.Zone, started time.Time) []byte {
	image, err := wire.NewImage(a.Msg)
	if err != nil {
		r.Log.Warn("answer cannot be packed", zap.String("question", a.Msg.Question[0].Name), zap.Error(err))
		return r.finish(wire.Fail(dst, q, dns.RcodeServerFailure), q, p, a.By, started)
	}
	switch {
	case a.TTL == WhileZoneLasts:
		r.Cache.Put(q.Key, image, a.By, z, 0, started)
	case a.TTL > 0:
		r.Cache.Put(q.Key, image, a.By, nil, a.TTL, started)
	}
	return r.finish(image.Reply(dst, q, limit(q, p), 0, r.turns.Add(1)), q, p, a.By, started)
}

// finish counts an answer.
func (r *Resolver) finish(out []byte, q *wire.Query, p Peer, by string, started time.Time) []byte {
	r.Metrics.observe(q.Type, p, by, int(out[3]&0xf), len(out), time.Since(started))
	return out
}

// odd deals with messages that are not ordinary queries. Answers to them are small, so none is ever too large.
func (r *Resolver) odd(dst, query []byte) ([]byte, bool) {
	if len(query) < 12 || query[2]&0x80 != 0 {
		return dst, true // not a query: an answer to it could start a conversation of servers
	}
	var m dns.Msg
	err := m.Unpack(query)
	reply := new(dns.Msg)
	reply.SetReply(&m)
	reply.Authoritative, reply.RecursionAvailable = false, true
	opt := m.IsEdns0()
	switch {
	case m.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
	case err != nil || len(m.Question) != 1:
		reply.Rcode = dns.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		reply.SetEdns0(wire.MaxUDP, false)
		reply.Rcode = dns.RcodeBadVers
	case m.Question[0].Qclass != dns.ClassINET:
		reply.Rcode = dns.RcodeRefused
	default:
		// Records where a query has none.
		reply.Rcode = dns.RcodeFormatError
	}
	packed, err := reply.Pack()
	if err != nil {
		// The question itself cannot be packed again.
		reply.Question, reply.Extra, reply.Rcode = nil, nil, dns.RcodeFormatError
		if packed, err = reply.Pack(); err != nil {
			return dst, true
		}
	}
	r.Metrics.odd(reply.Rcode)
	return append(dst, packed...), true
}

func (r *Resolver) panicked(cause any) {
	r.Metrics.panics.Inc()
	r.Log.Error("recovered", zap.String("cause", fmt.Sprint(cause)), zap.ByteString("stack", debug.Stack()))
}
