package request

import (
	"context"
	"slices"
	"sync"
)

// Well-known users and groups.
const (
	Anonymous       = "system:anonymous"
	Authenticated   = "system:authenticated"
	Unauthenticated = "system:unauthenticated"
	Masters         = "system:masters"
)

// UserInfo is who asks.
type UserInfo struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// In says whether the user is in a group. A nil user is in none.
func (u *UserInfo) In(group string) bool { return u != nil && slices.Contains(u.Groups, group) }

// State is all that the filters know about one request. The filters fill it before any handler runs; afterwards only
// the warnings change, and they have a lock.
type State struct {
	Info      *Info
	User      *UserInfo
	ID        string // the Audit-Id
	UserAgent string
	// Impersonator is who really asks, when User is somebody that they act as.
	Impersonator *UserInfo
	// Allowed is why the request was allowed, in the authorizer's words.
	Allowed string

	mu       sync.Mutex
	warnings []string
}

// maxWarnings bounds the Warning headers of one response; further ones are dropped.
const maxWarnings = 64

type key struct{}

// With returns a context that carries the state.
func With(ctx context.Context, s *State) context.Context { return context.WithValue(ctx, key{}, s) }

// StateOf returns the request's state, nil outside a request.
func StateOf(ctx context.Context) *State {
	s, _ := ctx.Value(key{}).(*State)
	return s
}

// From returns what the request asks for, nil outside a request.
func From(ctx context.Context) *Info {
	if s := StateOf(ctx); s != nil {
		return s.Info
	}
	return nil
}

// User returns who asks, nil outside a request or before authentication.
func User(ctx context.Context) *UserInfo {
	if s := StateOf(ctx); s != nil {
		return s.User
	}
	return nil
}

// Warn adds a sentence to the Warning headers of the response. A sentence that is there already, or one too many, is
// dropped; so are warnings outside a request or after the response has begun.
func Warn(ctx context.Context, text string) {
	s := StateOf(ctx)
	if s == nil || text == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.warnings) < maxWarnings && !slices.Contains(s.warnings, text) {
		s.warnings = append(s.warnings, text)
	}
}

// TakeWarnings returns the warnings collected so far and forgets them.
func (s *State) TakeWarnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.warnings
	s.warnings = nil
	return w
}
