package podsource

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// informer is a watch that a test moves by hand.
type informer struct {
	pods   []*corev1.Pod
	change func(old, now *corev1.Pod)
}

func (i *informer) Get(namespace, name string) (*corev1.Pod, bool) {
	n := slices.IndexFunc(i.pods, func(p *corev1.Pod) bool { return p.Namespace == namespace && p.Name == name })
	if n < 0 {
		return nil, false
	}
	return i.pods[n], true
}

func (i *informer) All() iter.Seq[*corev1.Pod]            { return slices.Values(i.pods) }
func (i *informer) OnChange(f func(old, now *corev1.Pod)) { i.change = f }

// told records what the workers are told.
type told struct {
	mu   sync.Mutex
	list []string
}

func (l *told) Update(p *corev1.Pod) { l.add("update %s", p.UID) }
func (l *told) Remove(u types.UID)   { l.add("remove %s", u) }

func (l *told) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, args...))
}

func (l *told) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := strings.Join(l.list, ", ")
	l.list = nil
	return out
}

func pod(name, uid string, started bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
	if started {
		p.Status.StartTime = &metav1.Time{}
	}
	return p
}

func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &informer{pods: []*corev1.Pod{pod("a", "new", false), pod("b", "old", true)}}
		var got told
		s := New(in, &got)
		s.Begin()
		if want := "update old, update new"; got.take() != want {
			t.Errorf("at the beginning those that run come first")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for _, step := range []struct {
			name string
			pods []*corev1.Pod
			old  *corev1.Pod
			now  *corev1.Pod
			want string
		}{
			{"a change", in.pods, in.pods[0], in.pods[0], "update new"},
			{"a pod goes", []*corev1.Pod{pod("b", "old", true)}, in.pods[0], nil, "remove new"},
			{"one comes under its name", []*corev1.Pod{pod("a", "third", false), pod("b", "old", true)}, nil, pod("a", "third", false), "update third"},
			{"replaced in one step", []*corev1.Pod{pod("a", "fourth", false)}, pod("a", "third", false), pod("a", "fourth", false), "remove third, update fourth"},
			{"something that was never handed on goes", nil, pod("x", "x", false), nil, ""},
		} {
			in.pods = step.pods
			in.change(step.old, step.now)
			synctest.Wait()
			if got := got.take(); got != step.want {
				t.Errorf("%s: told %q, want %q", step.name, got, step.want)
			}
		}
		cancel()
		<-done //nolint:errcheck // how it ended does not matter here
	})
}
