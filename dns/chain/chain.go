// Package chain turns queries into answers through an ordered list of handlers.
//
//	packed query ─▶ limiter ─▶ cache ─▶ autopath ─▶ cluster ─▶ loop ─▶ forward
//	                             │         │           │         │        └ asks upstream servers, and waits
//	                             │         │           │         └ knows one name: a question for it came from here
//	                             │         │           └ answers from the zone in memory, at once
//	                             │         └ goes on with the client's search path where the cluster says no
//	                             └ packed answers to the same question, at once
//
// [Resolver.Now] gives the answers that need no waiting, without leaving the caller's goroutine; all others are for [Resolver.Later].
package chain

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Question is what a client wants to know. The class is IN.
type Question struct {
	Name string // lower case, ending in a dot
	Type uint16
	DO   bool // DNSSEC records wanted
}

// Answer is a handler's word on a question.
type Answer struct {
	// Msg has the question as its only question; its id and the bits that depend on the client do not matter.
	Msg *dns.Msg
	// By is the name of the handler, for metrics.
	By string
	// TTL is how long the answer may be remembered: 0 not at all, [WhileZoneLasts] until the zone changes.
	TTL time.Duration
}

// WhileZoneLasts as a TTL: the answer comes from the zone alone.
const WhileZoneLasts = time.Duration(-1)

// ErrNotMine passes a question on to the next handler.
var ErrNotMine = errors.New("not this handler's question")

// ErrNotRemembered is in the chain of errors that say something about this server rather than about a name.
var ErrNotRemembered = errors.New("not remembered")

// Handler answers questions or passes them on with ErrNotMine. Any other error becomes SERVFAIL.
type Handler interface {
	Handle(ctx context.Context, q Question) (Answer, error)
}

// Chain is handlers in order.
type Chain []Handler

// Handle asks one handler after the other.
func (c Chain) Handle(ctx context.Context, q Question) (Answer, error) {
	for _, h := range c {
		a, err := h.Handle(ctx, q)
		if !errors.Is(err, ErrNotMine) {
			return a, err
		}
	}
	return Answer{Msg: Reply(q, dns.RcodeRefused), By: "none"}, nil
}

// Reply is an empty answer to a question. Recursion is available: it is what the chain does.
func Reply(q Question, rcode int) *dns.Msg {
	return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, RecursionAvailable: true, Rcode: rcode},
		Question: []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: dns.ClassINET}}}
}

// Within reports whether a name is a domain or lies below it; both are in lower case and end in a dot.
func Within(name, domain string) bool {
	if domain == "." || name == domain {
		return true
	}
	rest, below := strings.CutSuffix(name, domain)
	return below && strings.HasSuffix(rest, ".")
}
