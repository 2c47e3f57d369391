// Package eventratelimit bounds how many Events are written: in all, by namespace, by user, or by what an Event is about.
// Who is over a bound is told to come back, with 429.
package eventratelimit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/admission"
	"hardway/apiserver/request"
)

const name = "EventRateLimit"

// defaultBuckets is how many namespaces, users or sources are told apart; those that were silent longest are forgotten.
const defaultBuckets = 4096

// Plugin is the plugin.
type Plugin struct{ limits []*limit }

// limit is one bound: a bucket of tokens for each key.
type limit struct {
	kind    string
	key     func(ctx context.Context, a *admission.Attributes) string
	rate    rate.Limit
	burst   int
	buckets *lru.Cache[string, *rate.Limiter]
}

var keys = map[string]func(context.Context, *admission.Attributes) string{
	"Server":    func(context.Context, *admission.Attributes) string { return "" },
	"Namespace": func(_ context.Context, a *admission.Attributes) string { return a.Namespace },
	"User": func(ctx context.Context, _ *admission.Attributes) string {
		if u := request.User(ctx); u != nil {
			return u.Name
		}
		return ""
	},
	"SourceAndObject": func(_ context.Context, a *admission.Attributes) string {
		switch e := a.Object.(type) {
		case *corev1.Event:
			return about(e.Source.Component, e.Source.Host, &e.InvolvedObject)
		case *eventsv1.Event:
			return about(e.DeprecatedSource.Component, e.DeprecatedSource.Host, &e.Regarding)
		}
		return ""
	},
}

func about(component, host string, o *corev1.ObjectReference) string {
	return strings.Join([]string{component, host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion}, "")
}

// New makes the plugin, which needs a configuration.
func New(conf admission.Config) (*Plugin, error) {
	var c struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Limits     []struct {
			Type      string `json:"type"`
			QPS       int    `json:"qps"`
			Burst     int    `json:"burst"`
			CacheSize int    `json:"cacheSize"`
		} `json:"limits"`
	}
	if err := conf.Decode(name, "Configuration", &c); err != nil {
		return nil, err
	}
	p := &Plugin{}
	var errs []error
	if len(c.Limits) == 0 {
		errs = append(errs, errors.New("limits: must not be empty"))
	}
	for i, l := range c.Limits {
		key := keys[l.Type]
		if key == nil {
			errs = append(errs, fmt.Errorf("limits[%d].type: %q is none of Server, Namespace, User, SourceAndObject", i, l.Type))
		}
		if l.QPS <= 0 || l.Burst <= 0 || l.CacheSize < 0 {
			errs = append(errs, fmt.Errorf("limits[%d]: qps and burst must be positive, cacheSize not negative", i))
			continue
		}
		if l.CacheSize == 0 {
			l.CacheSize = defaultBuckets
		}
		buckets, err := lru.New[string, *rate.Limiter](l.CacheSize)
		errs = append(errs, err)
		p.limits = append(p.limits, &limit{kind: l.Type, key: key, rate: rate.Limit(l.QPS), burst: l.Burst, buckets: buckets})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configuration of the admission plugin %s: %w", name, err)
	}
	return p, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return name }

// Validate takes a token from every bucket of an Event.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Kind.Kind != "Event" || a.DryRun || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	var over []error
	for _, l := range p.limits {
		if key := l.key(ctx, a); !l.bucket(key).Allow() {
			over = append(over, fmt.Errorf("limit reached on type %v for key %v", l.kind, key))
		}
	}
	if err := errors.Join(over...); err != nil {
		return apierrors.NewTooManyRequestsError(err.Error())
	}
	return nil
}

func (l *limit) bucket(key string) *rate.Limiter {
	fresh := rate.NewLimiter(l.rate, l.burst)
	if has, ok, _ := l.buckets.PeekOrAdd(key, fresh); ok {
		l.buckets.Get(key) // it was spoken of
		return has
	}
	return fresh
}
