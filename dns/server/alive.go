package server

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// answerTime is how long the server may take to answer itself.
const answerTime = 2 * time.Second

// answered asks the server about its own domain, over the socket that pods ask. Any answer is life: names that are missing because the API cannot be
// reached do not come back by a restart.
func answered(ctx context.Context, at netip.AddrPort, domain string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, _, err := new(dns.Client).ExchangeContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(domain), dns.TypeSOA), at.String()); err != nil {
		return fmt.Errorf("ask %s about %s: %w", at, domain, err)
	}
	return nil
}
