package chain

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"hardway/dns/answer"
	"hardway/dns/zone"
)

// maxChase bounds how many CNAMEs of the cluster are followed for one question.
const maxChase = 8

// Cluster answers from the zone. It never waits, unless an ExternalName leads out of the cluster.
type Cluster struct {
	Zone *atomic.Pointer[zone.Zone]
	// Chase resolves names outside; it is the chain that the handler is in.
	Chase Handler
}

// At answers from one zone. ErrNotMine: the name is not of the cluster. More than one step is needed when chase is not empty: the name that
// the answer's last CNAME leads to.
func (c *Cluster) At(z *zone.Zone, q Question) (a Answer, chase string, err error) {
	r, mine := answer.To(z, answer.Question{Name: q.Name, Type: q.Type})
	if !mine {
		return Answer{}, "", ErrNotMine
	}
	if !z.Synced && len(r.Answer) == 0 {
		// What is missing may exist. Saying no would be remembered.
		return Answer{Msg: Reply(q, dns.RcodeServerFailure), By: "kubernetes"}, "", nil
	}
	m := Reply(q, r.Rcode)
	m.Authoritative, m.Answer, m.Extra = true, r.Answer, r.Extra
	if r.SOA != nil {
		m.Ns = []dns.RR{r.SOA}
	}
	return Answer{Msg: m, By: "kubernetes", TTL: WhileZoneLasts}, r.Chase, nil
}

// Handle implements Handler.
func (c *Cluster) Handle(ctx context.Context, q Question) (Answer, error) {
	z := c.Zone.Load()
	a, chase, err := c.At(z, q)
	for range maxChase {
		if err != nil || chase == "" {
			return a, err
		}
		// The target may be a name of the cluster, too, and that an ExternalName again.
		next := Question{Name: strings.ToLower(chase), Type: q.Type, DO: q.DO}
		a.TTL = 0 // it depends on more than the zone
		more, again, err := c.At(z, next)
		if err != nil {
			more, err = c.Chase.Handle(ctx, next)
		}
		if err != nil {
			return Answer{}, err
		}
		a.Msg.Answer = append(a.Msg.Answer, more.Msg.Answer...)
		a.Msg.Rcode = more.Msg.Rcode
		if len(more.Msg.Answer) == 0 {
			a.Msg.Ns = more.Msg.Ns
		}
		chase = again
	}
	return a, err
}
