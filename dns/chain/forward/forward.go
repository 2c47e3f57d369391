// Package forward asks other name servers.
//
// It asks one server after the other and does not wait long for any: a second server is asked when the first is slow, and the first good answer
// counts. A server that failed several times in a row is asked last, and looked after until it answers again. Equal questions that are under way at
// the same time are asked once. The number of questions under way is bounded; past the bound a question fails at once.
package forward

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"hardway/dns/chain"
	"hardway/dns/corefile"
	"hardway/dns/wire"
)

// Limits of one question.
const (
	total = 5 * time.Second        // all servers together
	each  = 2 * time.Second        // one server
	hedge = 300 * time.Millisecond // then the next server is asked as well
)

// Options are what the configuration says of a domain's servers.
type Options struct {
	corefile.Forward
	Servers func() []string // as in corefile.Forward.To, without files; may change from call to call
	Roots   *x509.CertPool  // nil: the system's
}

// Forward is a handler for all names. It is safe for concurrent use.
type Forward struct {
	options Options
	slots   chan struct{}
	turn    atomic.Uint32 // where to start
	looped  atomic.Bool
	ctx     context.Context // ends the health checks
	end     context.CancelFunc

	mu      sync.Mutex
	flying  map[chain.Question]*flight // guarded by mu
	servers map[string]*server         // those asked lately; guarded by mu

	metrics *Metrics
}

// flight is a question under way.
type flight struct {
	done   chan struct{}
	answer chain.Answer
	err    error
}

// Errors that come from here rather than from a server.
var (
	ErrLoop = fmt.Errorf("the upstream servers forward to this server: %w", chain.ErrNotRemembered)
	ErrBusy = fmt.Errorf("too many questions are under way: %w", chain.ErrNotRemembered)
)

// New makes a handler. Close ends what it runs.
func New(o Options, metrics *Metrics) *Forward {
	f := &Forward{options: o, slots: make(chan struct{}, o.MaxConcurrent), flying: map[chain.Question]*flight{}, servers: map[string]*server{}, metrics: metrics}
	f.ctx, f.end = context.WithCancel(context.Background())
	return f
}

// Close ends health checks and idle connections; questions under way are still answered.
func (f *Forward) Close() {
	f.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		s.close()
	}
}

// SetLooped makes every question fail with ErrLoop, or no longer.
func (f *Forward) SetLooped(looped bool) { f.looped.Store(looped) }

// Handle implements chain.Handler.
func (f *Forward) Handle(ctx context.Context, q chain.Question) (chain.Answer, error) {
	if f.looped.Load() {
		return chain.Answer{}, ErrLoop
	}
	f.mu.Lock()
	fl, underway := f.flying[q]
	if !underway {
		select {
		case f.slots <- struct{}{}:
		default:
			f.mu.Unlock()
			f.metrics.rejected.Inc()
			return chain.Answer{}, fmt.Errorf("forward %s: %w (%d)", q.Name, ErrBusy, cap(f.slots))
		}
		fl = &flight{done: make(chan struct{})}
		f.flying[q] = fl
		// The flight outlives a client that gives up: others may wait for it.
		go f.fly(context.WithoutCancel(ctx), q, fl)
	}
	f.mu.Unlock()
	select {
	case <-fl.done:
		if fl.err != nil {
			return chain.Answer{}, fl.err
		}
		a := fl.answer
		a.Msg = a.Msg.Copy() // each waiter may change its own
		return a, nil
	case <-ctx.Done():
		return chain.Answer{}, ctx.Err()
	}
}

// fly asks and tells everybody who waits.
func (f *Forward) fly(ctx context.Context, q chain.Question, fl *flight) {
	ctx, cancel := context.WithTimeout(ctx, total)
	defer cancel()
	m, err := f.ask(ctx, q)
	if err == nil {
		fl.answer = chain.Answer{Msg: m, By: "forward", TTL: f.lifetime(m)}
	}
	fl.err = err
	f.mu.Lock()
	delete(f.flying, q)
	f.mu.Unlock()
	<-f.slots
	close(fl.done)
}

// candidates are the servers in the order in which they are asked: those that are down come last.
func (f *Forward) candidates() []*server {
	texts := f.options.Servers()
	if len(texts) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*server, len(texts))
	for i, text := range texts {
		s, known := f.servers[text]
		if !known {
			s = newServer(text, &f.options)
			f.servers[text] = s
		}
		list[i] = s
	}
	if len(f.servers) > len(list) {
		for text, s := range f.servers {
			if !slices.Contains(texts, text) {
				s.close()
				delete(f.servers, text)
			}
		}
	}
	start := int(f.turn.Load()) % len(list)
	switch f.options.Policy {
	case corefile.Random:
		start = rand.IntN(len(list))
	case corefile.RoundRobin:
		f.turn.Add(1)
	}
	list = append(slices.Clone(list[start:]), list[:start]...)
	if !slices.ContainsFunc(list, func(s *server) bool { return !s.down() }) {
		f.metrics.broken.Inc() // all are down, and asked all the same
	}
	slices.SortStableFunc(list, func(a, b *server) int { return index(a.down()) - index(b.down()) })
	return list
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ask asks the servers in turn, overlapping, until one has an answer.
func (f *Forward) ask(ctx context.Context, q chain.Question) (*dns.Msg, error) {
	servers := f.candidates()
	if len(servers) == 0 {
		return nil, fmt.Errorf("forward %s: there are no upstream servers", q.Name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		msg   *dns.Msg
		first bool
		err   error
	}
	results := make(chan result, len(servers))
	turn := f.turn.Load()
	started, ended := 0, 0
	next := func() {
		s, first := servers[started], started == 0
		started++
		go func() {
			m, err := f.exchange(ctx, s, q)
			results <- result{m, first, err}
		}()
	}
	next()
	timer := time.NewTicker(hedge)
	defer timer.Stop()
	var failures error
	for {
		select {
		case r := <-results:
			ended++
			if r.err == nil {
				return r.msg, nil
			}
			failures = errors.Join(failures, r.err)
			if r.first && f.options.Policy == corefile.Sequential {
				f.turn.CompareAndSwap(turn, turn+1)
			}
			if started < len(servers) {
				next()
			} else if ended == started {
				return nil, fmt.Errorf("forward %s: %w", q.Name, failures)
			}
		case <-timer.C:
			if started < len(servers) {
				next()
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("forward %s: %w", q.Name, errors.Join(failures, ctx.Err()))
		}
	}
}

// exchange asks one server. SERVFAIL and REFUSED count as no answer, so that another server gets its chance; the server is well all the same.
func (f *Forward) exchange(ctx context.Context, s *server, q chain.Question) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(q.Name, q.Type)
	m.SetEdns0(wire.MaxUDP, q.DO)
	started := time.Now()
	r, err := s.exchange(ctx, m)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return nil, err // another server was faster
	case err != nil:
		f.metrics.observe(s.addr, "TIMEOUT", started)
		s.failed(f.ctx, func() { f.metrics.unwell.WithLabelValues("forward", s.addr).Inc() })
		return nil, fmt.Errorf("ask %s: %w", s.addr, err)
	}
	s.failures.Store(0)
	f.metrics.observe(s.addr, dns.RcodeToString[r.Rcode], started)
	switch {
	case r.Rcode == dns.RcodeServerFailure || r.Rcode == dns.RcodeRefused || r.Rcode == dns.RcodeNotImplemented:
		return nil, fmt.Errorf("ask %s: %s", s.addr, dns.RcodeToString[r.Rcode])
	case len(r.Question) != 1 || r.Question[0].Qtype != q.Type || dns.CanonicalName(r.Question[0].Name) != q.Name:
		return nil, fmt.Errorf("ask %s: it answered another question", s.addr)
	}
	return f.clean(r, q), nil
}

// clean keeps of an answer what is for our client: the OPT record was for us. No TTL is above what may be remembered.
func (f *Forward) clean(r *dns.Msg, q chain.Question) *dns.Msg {
	m := chain.Reply(q, r.Rcode)
	m.AuthenticatedData = r.AuthenticatedData
	m.Answer, m.Ns = r.Answer, r.Ns
	for _, rr := range r.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			m.Extra = append(m.Extra, rr)
		}
	}
	most := f.options.MaxTTL
	if len(m.Answer) == 0 {
		most = f.options.MaxDenial
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			rr.Header().Ttl = min(rr.Header().Ttl, uint32(most/time.Second))
		}
	}
	return m
}

// lifetime is the lowest TTL of an answer, and what the SOA record says for a denial, RFC 2308 section 5, within the configured bounds. Without
// records nothing is known, and nothing remembered.
func (f *Forward) lifetime(m *dns.Msg) time.Duration {
	lowest, known := uint32(0), false
	take := func(ttl uint32) {
		if !known || ttl < lowest {
			lowest, known = ttl, true
		}
	}
	for _, rr := range m.Answer {
		take(rr.Header().Ttl)
	}
	least, most := f.options.MinTTL, f.options.MaxTTL
	if len(m.Answer) == 0 {
		least, most = f.options.MinDenial, f.options.MaxDenial
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				take(min(soa.Hdr.Ttl, soa.Minttl))
			}
		}
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError || !known {
		return 0
	}
	return min(max(time.Duration(lowest)*time.Second, least), most)
}
