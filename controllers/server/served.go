package server

import (
	"context"
	"time"

	"go.uber.org/zap"

	"hardway/controllers/cleanup/resources"
	"hardway/shared/client"
)

// askAgain is the time between two questions to an API server that does not answer.
const askAgain = time.Second

// askServed returns the kinds that the API server serves, as group/resource with the core group left out. It waits for
// the server.
func askServed(ctx context.Context, api *client.API, log *zap.Logger) (map[string]bool, error) {
	finder, err := resources.NewFinder(api.Config())
	if err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		set, err := finder.Find(ctx)
		if err == nil {
			return served(set), nil
		}
		if first {
			log.Warn("cannot ask what is served, waiting", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(askAgain):
		}
	}
}

func served(set resources.Set) map[string]bool {
	out := make(map[string]bool, len(set.All))
	for _, r := range set.All {
		name := r.Resource
		if r.Group != "" {
			name = r.Group + "/" + name
		}
		out[name] = true
	}
	return out
}

// lacking says which kind a controller reads that is not served; "" when there is none. Its cache would never fill, and
// the other controllers would wait for it.
func lacking(reads []string, served map[string]bool) string {
	for _, r := range reads {
		if r != "*" && !served[r] {
			return "the API server does not serve " + r
		}
	}
	return ""
}
