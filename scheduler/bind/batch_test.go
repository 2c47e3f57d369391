package bind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/scheduler/framework"
)

// crowd is a Bind plugin that takes several at once, when it is let, and refuses odd ones.
type crowd struct {
	steps
	let   chan struct{}
	mu    sync.Mutex
	sizes []int // guarded by mu
}

func (c *crowd) BindAll(_ context.Context, list []framework.Binding) {
	<-c.let
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes = append(c.sizes, len(list))
	for i := range list {
		if list[i].Node == "odd" {
			list[i].Err = errors.New("odd")
		}
	}
}

func TestBindingsGoTogether(t *testing.T) {
	c := &crowd{let: make(chan struct{})}
	b := New(nil, c, time.Minute, zap.NewNop())
	profile := &framework.Profile{Bind: c}
	const n = 1 + 3*together
	results := make([]error, n)
	var landed sync.WaitGroup
	landed.Add(n)
	for i := range n {
		pod := &framework.Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}}}
		task := Task{Pod: pod, Node: []string{"even", "odd"}[i%2], Profile: profile, State: func(string) any { return nil }, Decided: time.Now()}
		if i == 5 {
			task.Decided = time.Now().Add(-time.Hour)
		}
		b.Bind(t.Context(), task, func(err error) { results[i] = err; landed.Done() })
	}
	close(c.let)
	landed.Wait()
	b.Wait()
	for i, err := range results {
		if stale := errors.Is(err, ErrStale); stale != (i == 5) || !stale && (err != nil) != (i%2 == 1) {
			t.Errorf("binding %d: %v", i, err)
		}
	}
	sum := 0
	for _, size := range c.sizes {
		sum += size
	}
	if sum != n-1 || len(c.sizes) > n/2 || slices.Max(c.sizes) > together {
		t.Errorf("sent in batches of %v", c.sizes)
	}
	if b.UnderWay() != 0 || b.senders != 0 || b.starting != 0 || len(b.waiting) != 0 {
		t.Errorf("%d slots taken, %d senders, %d starting, %d waiting in the end", b.UnderWay(), b.senders, b.starting, len(b.waiting))
	}
}

// TestProfilesDoNotMix sends bindings of two plugins apart.
func TestProfilesDoNotMix(t *testing.T) {
	one, two := &crowd{let: make(chan struct{})}, &crowd{let: make(chan struct{})}
	b := New(nil, one, 0, zap.NewNop())
	profiles := []*framework.Profile{{Bind: one}, {Bind: two}}
	var landed sync.WaitGroup
	landed.Add(6)
	for i := range 6 {
		pod := &framework.Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}}
		b.Bind(t.Context(), Task{Pod: pod, Node: "n", Profile: profiles[i/3], State: func(string) any { return nil }}, func(error) { landed.Done() })
	}
	close(one.let)
	close(two.let)
	landed.Wait()
	for i, c := range []*crowd{one, two} {
		sum := 0
		for _, size := range c.sizes {
			sum += size
		}
		if sum != 3 {
			t.Errorf("plugin %d bound %v, want 3 in all", i, c.sizes)
		}
	}
}
