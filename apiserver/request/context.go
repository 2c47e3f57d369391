package request

import (
	"context"
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// Decision is what authorization said, "allow" or "forbid" ("" when it was not asked), and Allowed why.
	Decision, Allowed string
	// Sent is the object that a create or update has sent, once it is decoded; read only.
	Sent metav1.Object

	mu       sync.Mutex
	warnings []string
	notes    map[string]string
	failed   *metav1.Status
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

// Annotate adds a note for the audit log; the first value of a key stays. Outside a request it does nothing.
func Annotate(ctx context.Context, key, value string) {
	s := StateOf(ctx)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notes == nil {
		s.notes = map[string]string{}
	}
	if _, has := s.notes[key]; !has {
		s.notes[key] = value
	}
}

// Annotations are the notes so far, the caller's own; nil when there are none.
func (s *State) Annotations() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.notes)
}

// Fail remembers the Status with which the request is refused.
func (s *State) Fail(status *metav1.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = status
}

// Failed is that Status, nil when the request was not refused.
func (s *State) Failed() *metav1.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}
