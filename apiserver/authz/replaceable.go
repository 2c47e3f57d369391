package authz

import (
	"context"
	"sync/atomic"

	"hardway/apiserver/request"
)

// Replaceable is a Chain that can be replaced while it is asked. Empty it has no opinion.
type Replaceable struct{ chain atomic.Pointer[Chain] }

// Replace puts another chain in.
func (r *Replaceable) Replace(c Chain) { r.chain.Store(&c) }

// Authorize asks the chain.
func (r *Replaceable) Authorize(ctx context.Context, user *request.UserInfo, info *request.Info) (Decision, string, error) {
	c := r.chain.Load()
	if c == nil {
		return NoOpinion, "", nil
	}
	return c.Authorize(ctx, user, info)
}
