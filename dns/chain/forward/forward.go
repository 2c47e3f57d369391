// Package forward asks other name servers.
//
// It asks one server after the other, starting with the one that answered last, and does not wait long for any: a second server is asked when the
// first is slow, and the first good answer counts. Equal questions that are under way at the same time are asked once. The number of
// questions under way is bounded; past the bound a question fails at once.
package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"hardway/dns/chain"
	"hardway/dns/wire"
)

// Limits of one question.
const (
	total   = 5 * time.Second        // all servers together
	each    = 2 * time.Second        // one server
	hedge   = 300 * time.Millisecond // then the next server is asked as well
	maxTTL  = time.Hour              // answers are remembered for no longer
	denyTTL = 30 * time.Minute       // nor are denials
)

// Forward is a handler for all names. It is safe for concurrent use.
type Forward struct {
	servers func() []string // "address:port"; may change from call to call
	slots   chan struct{}
	good    atomic.Uint32 // where to start: grows by one when the server that was started with failed
	looped  atomic.Bool

	mu     sync.Mutex
	flying map[chain.Question]*flight // guarded by mu

	took     *prometheus.HistogramVec
	rejected prometheus.Counter
}

// flight is a question under way.
type flight struct {
	done   chan struct{}
	answer chain.Answer
	err    error
}

// ErrLoop says that an upstream server sent our own question back to us.
var ErrLoop = errors.New("the upstream servers forward to this server")

// New makes a handler that asks the servers that the function tells and has at most limit questions under way.
func New(servers func() []string, limit int, reg prometheus.Registerer) *Forward {
	f := &Forward{servers: servers, slots: make(chan struct{}, limit), flying: map[chain.Question]*flight{},
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_proxy_request_duration_seconds",
			Help: "Histogram of the time each request took.", Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16)}, []string{"proxy_name", "to", "rcode"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "coredns_forward_max_concurrent_rejects_total",
			Help: "Counter of the number of queries rejected because the concurrent queries were at maximum."}),
	}
	reg.MustRegister(f.took, f.rejected)
	return f
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
			f.rejected.Inc()
			return chain.Answer{}, fmt.Errorf("forward %s: %d questions are under way", q.Name, cap(f.slots))
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
		fl.answer = chain.Answer{Msg: m, By: "forward", TTL: lifetime(m)}
	}
	fl.err = err
	f.mu.Lock()
	delete(f.flying, q)
	f.mu.Unlock()
	<-f.slots
	close(fl.done)
}

// ask asks the servers in turn, overlapping, until one has an answer.
func (f *Forward) ask(ctx context.Context, q chain.Question) (*dns.Msg, error) {
	servers := f.servers()
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
	start := f.good.Load()
	started, ended := 0, 0
	next := func() {
		server, first := servers[(int(start)+started)%len(servers)], started == 0
		started++
		go func() {
			m, err := f.exchange(ctx, server, q)
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
			if r.first {
				f.good.CompareAndSwap(start, start+1)
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

// exchange asks one server: by UDP from a fresh port, and by TCP if the answer does not fit. SERVFAIL and REFUSED count as failures, so that
// another server gets its chance.
func (f *Forward) exchange(ctx context.Context, server string, q chain.Question) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(q.Name, q.Type)
	m.SetEdns0(wire.MaxUDP, q.DO)
	started := time.Now()
	var last error
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: each, Dialer: &net.Dialer{Timeout: each}}
		r, _, err := client.ExchangeContext(ctx, m, server)
		if err != nil {
			f.observe(server, "TIMEOUT", started)
			return nil, fmt.Errorf("ask %s: %w", server, err)
		}
		if r.Truncated && network == "udp" {
			continue
		}
		f.observe(server, dns.RcodeToString[r.Rcode], started)
		if r.Rcode == dns.RcodeServerFailure || r.Rcode == dns.RcodeRefused || r.Rcode == dns.RcodeNotImplemented {
			last = fmt.Errorf("ask %s: %s", server, dns.RcodeToString[r.Rcode])
			break
		}
		if len(r.Question) != 1 || r.Question[0].Qtype != q.Type || dns.CanonicalName(r.Question[0].Name) != q.Name {
			return nil, fmt.Errorf("ask %s: it answered another question", server)
		}
		return clean(r, q), nil
	}
	return nil, last
}

func (f *Forward) observe(server, rcode string, started time.Time) {
	f.took.WithLabelValues("forward", server, rcode).Observe(time.Since(started).Seconds())
}

// clean keeps of an answer what is for our client: the OPT record was for us.
func clean(r *dns.Msg, q chain.Question) *dns.Msg {
	m := chain.Reply(q, r.Rcode)
	m.AuthenticatedData = r.AuthenticatedData
	m.Answer, m.Ns = r.Answer, r.Ns
	for _, rr := range r.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			m.Extra = append(m.Extra, rr)
		}
	}
	return m
}

// lifetime is the lowest TTL of an answer, and what the SOA record says for a denial, RFC 2308 section 5. Without records nothing is known, and
// nothing remembered.
func lifetime(m *dns.Msg) time.Duration {
	lowest, known := uint32(0), false
	take := func(ttl uint32) {
		if !known || ttl < lowest {
			lowest, known = ttl, true
		}
	}
	for _, rr := range m.Answer {
		take(rr.Header().Ttl)
	}
	most := maxTTL
	if len(m.Answer) == 0 {
		most = denyTTL
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				take(min(soa.Hdr.Ttl, soa.Minttl))
			}
		}
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	return min(time.Duration(lowest)*time.Second, most)
}
