package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// server records what is written and takes some time for it.
type server struct {
	mu     sync.Mutex
	order  []string
	fail   int
	err    error
	stored []types.UID
	pause  time.Duration
}

func (s *server) patch(ctx context.Context, _, name string, _ []byte) (*corev1.Pod, error) {
	time.Sleep(s.pause)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return nil, s.err
	}
	s.order = append(s.order, name)
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: fmt.Sprint(100 + len(s.order))}}, ctx.Err()
}

func (s *server) note(uid types.UID, _ corev1.PodStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = append(s.stored, uid)
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1"}}
}

func withReady(ready corev1.ConditionStatus, message string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, Message: message, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}
}

// run starts a writer in a bubble of its own time.
func run(t *testing.T, s *server, f func(w *Writer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := NewWriter(s.patch, s.note, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }() //nolint:errcheck // it returns nil
		f(w)
		cancel()
		<-done
	})
}

func TestTheFirstReadyOvertakes(t *testing.T) {
	s := &server{pause: time.Second}
	run(t, s, func(w *Writer) {
		for i := range 3 * writers {
			w.Submit(pod(fmt.Sprint("slow", i)), withReady(corev1.ConditionFalse, "x"))
		}
		w.Submit(pod("first"), withReady(corev1.ConditionTrue, ""))
		time.Sleep(time.Minute)
	})
	if at := slices.Index(s.order, "first"); at < 0 || at >= 2*writers {
		t.Errorf("the ready pod came %d. of %d", at+1, len(s.order))
	}
	if len(s.order) != 3*writers+1 {
		t.Errorf("%d writes", len(s.order))
	}
}

func TestOnlyTheNewestIsSent(t *testing.T) {
	s := &server{pause: time.Second}
	run(t, s, func(w *Writer) {
		p := pod("a")
		for i := range 10 {
			w.Submit(p, withReady(corev1.ConditionFalse, fmt.Sprint(i)))
		}
		time.Sleep(10 * time.Millisecond)
		for i := range 10 {
			w.Submit(p, withReady(corev1.ConditionFalse, fmt.Sprint("b", i)))
		}
		time.Sleep(time.Minute)
	})
	if len(s.order) != 2 {
		t.Errorf("%d writes, want 2", len(s.order))
	}
}

func TestProgressWaitsForReady(t *testing.T) {
	s := &server{}
	run(t, s, func(w *Writer) {
		p := pod("a")
		w.Submit(p, corev1.PodStatus{Phase: corev1.PodPending})
		time.Sleep(progressDelay / 2)
		w.Submit(p, withReady(corev1.ConditionTrue, ""))
		time.Sleep(time.Minute)
	})
	if len(s.order) != 1 {
		t.Errorf("%d writes, want 1", len(s.order))
	}
}

func TestWhatIsStoredIsNotSent(t *testing.T) {
	s := &server{}
	run(t, s, func(w *Writer) {
		p := pod("a")
		p.Status = withReady(corev1.ConditionTrue, "")
		if !w.Submit(p, withReady(corev1.ConditionTrue, "")) {
			t.Error("the API has it already")
		}
		w.Submit(p, withReady(corev1.ConditionFalse, ""))
		time.Sleep(time.Second)
		if !w.Submit(p, withReady(corev1.ConditionFalse, "")) {
			t.Error("it was acknowledged; the watch only lags")
		}
		newer := pod("a")
		newer.ResourceVersion, newer.Status = "500", withReady(corev1.ConditionTrue, "somebody else's")
		if w.Submit(newer, withReady(corev1.ConditionFalse, "")) {
			t.Error("somebody wrote over it")
		}
		time.Sleep(time.Second)
	})
	if len(s.order) != 2 {
		t.Errorf("%d writes, want 2", len(s.order))
	}
}

func TestFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		writes int
	}{
		"transient is tried again":       {errors.New("connection refused"), 1},
		"a pod that is gone is not":      {apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "a"), 0},
		"nor is another pod of its name": {apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "a", errors.New("uid")), 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{fail: 3, err: tc.err}
			run(t, s, func(w *Writer) {
				w.Submit(pod("a"), withReady(corev1.ConditionTrue, ""))
				time.Sleep(time.Minute)
			})
			if len(s.order) != tc.writes || len(s.stored) != tc.writes {
				t.Errorf("%d writes, %d reported", len(s.order), len(s.stored))
			}
		})
	}
}
