package chain

import (
	"context"
	"crypto/rand"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Loop notices when this server is its own upstream, through others: it knows a name that nobody else does, and if a question for it comes in from
// outside, the forwarded questions come back.
type Loop struct {
	name string
	seen atomic.Bool
}

// NewLoop invents the name.
func NewLoop() *Loop { return &Loop{name: strings.ToLower(rand.Text()) + ".loop.hardway-dns."} }

// Question is what to send upstream for a test.
func (l *Loop) Question() Question { return Question{Name: l.name, Type: dns.TypeHINFO} }

// Seen reports whether the question came back since the last call.
func (l *Loop) Seen() bool { return l.seen.Swap(false) }

// Handle implements Handler: it knows the one name.
func (l *Loop) Handle(_ context.Context, q Question) (Answer, error) {
	if q.Name != l.name {
		return Answer{}, ErrNotMine
	}
	l.seen.Store(true)
	return Answer{Msg: Reply(q, dns.RcodeNameError), By: "none"}, nil
}
