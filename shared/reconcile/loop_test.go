package reconcile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// run starts a loop in a bubble and returns it with a function that ends it.
func run(t *testing.T, workers int, r Reconciler) *Loop {
	t.Helper()
	l := New("test", workers, r, zap.NewNop(), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestLoopOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		outcome func(call int) (Result, error)
		after   time.Duration
		calls   int
	}{
		"done is done":                   {func(int) (Result, error) { return Result{}, nil }, time.Hour, 1},
		"terminal is not tried again":    {func(int) (Result, error) { return Result{}, Terminal(errors.New("no such image")) }, time.Hour, 1},
		"failures are tried with pauses": {func(int) (Result, error) { return Result{}, errors.New("busy") }, 40 * time.Millisecond, 4}, // 0, 5, 15, 35
		"a panic is a failure":           {func(int) (Result, error) { panic("nil map") }, 10 * time.Millisecond, 2},
		"requeue after":                  {func(int) (Result, error) { return Result{RequeueAfter: time.Second}, nil }, 3500 * time.Millisecond, 4},
		"success resets the pauses": {func(n int) (Result, error) {
			if n%2 == 0 {
				return Result{}, errors.New("odd")
			}
			return Result{RequeueAfter: time.Second}, nil
		}, 2500 * time.Millisecond, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				l := run(t, 1, func(context.Context, Key) (Result, error) {
					defer func() { calls++ }()
					return test.outcome(calls)
				})
				l.Add(Key{"default", "web"})
				time.Sleep(test.after)
				synctest.Wait()
				if calls != test.calls {
					t.Errorf("%d calls, want %d", calls, test.calls)
				}
			})
		})
	}
}

func TestKeyIsNeverWorkedOnTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, calls := 0, 0
		l := run(t, 4, func(context.Context, Key) (Result, error) {
			running++
			calls++
			if running > 1 {
				t.Error("two workers hold one key")
			}
			time.Sleep(time.Second)
			running--
			return Result{}, nil
		})
		for range 10 {
			l.Add(Key{"", "node-1"})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want 2: the first, and one for all that was added meanwhile", calls)
		}
	})
}
