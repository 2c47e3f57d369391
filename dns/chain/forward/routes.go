package forward

import (
	"context"

	"hardway/dns/chain"
)

// Routes is a handler that forwards each name to the servers of the longest domain that it lies in.
type Routes []*Forward

// For is the handler of a name; nil: none.
func (r Routes) For(name string) *Forward {
	var best *Forward
	for _, f := range r {
		if f.takes(name) && (best == nil || len(f.options.Zone) > len(best.options.Zone)) {
			best = f
		}
	}
	return best
}

// Handle implements chain.Handler.
func (r Routes) Handle(ctx context.Context, q chain.Question) (chain.Answer, error) {
	if f := r.For(q.Name); f != nil {
		return f.Handle(ctx, q)
	}
	return chain.Answer{}, chain.ErrNotMine
}

// Zone is the domain whose names the handler is for.
func (f *Forward) Zone() string { return f.options.Zone }

func (f *Forward) takes(name string) bool {
	if !chain.Within(name, f.options.Zone) {
		return false
	}
	for _, zone := range f.options.Except {
		if chain.Within(name, zone) {
			return false
		}
	}
	return true
}

// Close ends what the handlers run.
func (r Routes) Close() {
	for _, f := range r {
		f.Close()
	}
}
