package chain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"hardway/dns/chain/cache"
	"hardway/dns/corefile"
	"hardway/dns/wire"
	"hardway/dns/zone"
)

// Resolver turns packed queries into packed answers. It is safe for concurrent use.
type Resolver struct {
	Zone    *atomic.Pointer[zone.Zone]
	Setup   *atomic.Pointer[Setup]
	Cache   *cache.Cache
	Metrics *Metrics
	Log     *zap.Logger

	turns    atomic.Uint32
	renewing atomic.Int32
}

// Setup is what the configuration says. It may be replaced while queries are answered: each is answered under one setup.
type Setup struct {
	Cluster  *Cluster
	Autopath *Autopath // nil: none
	Chain    Chain     // Autopath if there is one, Cluster, and what comes after
	Cache    corefile.Cache
	Limiter  *Limiter // nil: none
	Queries  bool     // log every query
	Errors   bool     // log every failure
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
	s := r.Setup.Load()
	if q.Type == dns.TypeAXFR || q.Type == dns.TypeIXFR || !s.Limiter.Allow(p.Addr, started) {
		return r.finish(wire.Fail(dst, &q, dns.RcodeRefused), &q, p, "none", started), true
	}
	z := r.Zone.Load()
	remembered, ok := r.Cache.Get(q.Key, z, started)
	if ok && !(q.Type == dns.TypePTR && remembered.By == "forward") {
		return r.fromCache(dst, &q, p, remembered, s, started), true
	}
	name, plain := wire.NameOf(q.Key)
	if !plain {
		return nil, false
	}
	a, chase, err := s.Cluster.At(z, Question{Name: name, Type: q.Type, DO: q.DO})
	switch {
	case err == nil && chase == "" && s.Autopath.applies(z, name, q.Type, a):
		return nil, false
	case err == nil && chase == "":
		return r.reply(dst, &q, p, a, z, started), true
	case ok: // the reverse name of an address is not the cluster's after all
		return r.fromCache(dst, &q, p, remembered, s, started), true
	}
	if e, ok := r.Cache.Stale(q.Key, started, s.Cache.Stale); ok && (s.Cache.Immediate || !e.Claim(started, 0)) {
		if e.Claim(started, retry) {
			r.renewBehind(s, q.Key, name, q, e)
		}
		return r.finish(e.Image.Reply(dst, &q, limit(&q, p), e.Age(started), r.turns.Add(1)), &q, p, e.By, started), true
	}
	return nil, false
}

// fromCache answers from an answer that is good, and asks for it anew before it runs out, if many want it.
func (r *Resolver) fromCache(dst []byte, q *wire.Query, p Peer, e *cache.Entry, s *Setup, started time.Time) []byte {
	if ahead := &s.Cache.Prefetch; e.Popular(started, ahead.Amount, ahead.Gap, ahead.Percent) && e.Claim(started, retry) {
		if name, plain := wire.NameOf(q.Key); plain {
			r.renewBehind(s, q.Key, name, *q, e)
		}
	}
	return r.finish(e.Image.Reply(dst, q, limit(q, p), e.Age(started), r.turns.Add(1)), q, p, e.By, started)
}

const (
	// retry is how long nobody asks again after a question that was asked ahead of time, or in spite of an old answer.
	retry = 5 * time.Second
	// patience is how long a client waits for a new answer where there is an old one; RFC 8767 section 5 allows 1.8 s.
	patience = 800 * time.Millisecond
	// maxRenewing bounds the questions that are asked without a client that waits; more are not asked.
	maxRenewing = 100
)

// renewBehind asks a question for the cache alone.
func (r *Resolver) renewBehind(s *Setup, key []byte, name string, q wire.Query, e *cache.Entry) {
	if r.renewing.Add(1) > maxRenewing {
		r.renewing.Add(-1)
		return
	}
	key = slices.Clone(key)
	go func() {
		defer r.renewing.Add(-1)
		defer func() {
			if cause := recover(); cause != nil {
				r.panicked(cause)
			}
		}()
		z, now := r.Zone.Load(), time.Now()
		a, err := s.Chain.Handle(context.Background(), Question{Name: name, Type: q.Type, DO: q.DO}) // ends by itself, after seconds
		if err == nil {
			_, err = r.remember(key, a, z, now)
		}
		if err != nil {
			r.Log.Debug("no new answer", zap.String("question", name), zap.Error(err))
		}
	}()
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
	s, z := r.Setup.Load(), r.Zone.Load()
	old, stale := r.Cache.Stale(q.Key, started, s.Cache.Stale)
	question := Question{Name: name, Type: q.Type, DO: q.DO}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if stale {
		limited, cancel = context.WithTimeout(ctx, patience)
	}
	defer cancel()
	a, err := s.Chain.Handle(limited, question)
	if err == nil {
		return r.reply(dst, &q, p, a, z, started)
	}
	r.failure(s, name, err)
	if stale {
		if old.Claim(started, retry) && errors.Is(err, context.DeadlineExceeded) {
			r.renewBehind(s, q.Key, name, q, old) // joins the question that is under way
		}
		return r.finish(old.Image.Reply(dst, &q, limit(&q, p), old.Age(started), 0), &q, p, old.By, started)
	}
	return r.reply(dst, &q, p, Answer{Msg: Reply(question, dns.RcodeServerFailure), By: "none", TTL: failureTTL(s, err)}, z, started)
}

// failureTTL is how long a failure is remembered, RFC 9520 section 3.2: not when it says something about this server rather than about the name.
func failureTTL(s *Setup, err error) time.Duration {
	if errors.Is(err, ErrNotRemembered) || errors.Is(err, context.Canceled) {
		return 0
	}
	return s.Cache.ServeFail
}

func (r *Resolver) failure(s *Setup, name string, err error) {
	if s.Errors {
		r.Log.Warn("no answer", zap.String("question", name), zap.Error(err))
	} else {
		r.Log.Debug("no answer", zap.String("question", name), zap.Error(err))
	}
}

// reply packs an answer, remembers it if it may be, and appends it.
func (r *Resolver) reply(dst []byte, q *wire.Query, p Peer, a Answer, z *zone.Zone, started time.Time) []byte {
	image, err := r.remember(q.Key, a, z, started)
	if err != nil {
		r.Log.Warn("answer cannot be packed", zap.String("question", a.Msg.Question[0].Name), zap.Error(err))
		return r.finish(wire.Fail(dst, q, dns.RcodeServerFailure), q, p, a.By, started)
	}
	return r.finish(image.Reply(dst, q, limit(q, p), 0, r.turns.Add(1)), q, p, a.By, started)
}

// remember packs an answer and keeps it for as long as it may be kept.
func (r *Resolver) remember(key []byte, a Answer, z *zone.Zone, now time.Time) (*wire.Image, error) {
	image, err := wire.NewImage(a.Msg)
	switch {
	case err != nil:
		return nil, err
	case a.TTL == WhileZoneLasts:
		r.Cache.Put(key, image, a.By, z, 0, now)
	case a.TTL > 0:
		r.Cache.Put(key, image, a.By, nil, a.TTL, now)
	}
	return image, nil
}

// finish counts an answer.
func (r *Resolver) finish(out []byte, q *wire.Query, p Peer, by string, started time.Time) []byte {
	took := time.Since(started)
	r.Metrics.observe(q.Type, p, by, int(out[3]&0xf), len(out), took)
	if r.Setup.Load().Queries {
		name, _ := wire.NameOf(q.Key)
		r.Log.Info("query", zap.Stringer("client", p.Addr), zap.String("name", name), zap.String("type", dns.Type(q.Type).String()),
			zap.String("rcode", dns.RcodeToString[int(out[3]&0xf)]), zap.Int("size", len(out)), zap.Duration("took", took))
	}
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
