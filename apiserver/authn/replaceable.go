package authn

import (
	"context"
	"errors"
	"sync/atomic"
)

// Replaceable is a list of Tokens that can be replaced while they are asked.
type Replaceable struct{ tokens atomic.Pointer[[]Token] }

// Replace puts another list in.
func (r *Replaceable) Replace(tokens []Token) { r.tokens.Store(&tokens) }

// Authenticate asks the list, in order.
func (r *Replaceable) Authenticate(ctx context.Context, token string, audiences []string) (*Identity, error) {
	tokens := r.tokens.Load()
	if tokens == nil {
		return nil, ErrNotMine
	}
	for _, t := range *tokens {
		id, err := t.Authenticate(ctx, token, audiences)
		if !errors.Is(err, ErrNotMine) {
			return id, err
		}
	}
	return nil, ErrNotMine
}
