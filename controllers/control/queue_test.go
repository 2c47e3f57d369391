package control

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/shared/reconcile"
)

func TestQueueWorksOnlyInATerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var worked []string
		env := Env{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()}
		q := env.Queue("test", 1, func(_ context.Context, key reconcile.Key) (reconcile.Result, error) {
			worked = append(worked, key.Name)
			return reconcile.Result{}, nil
		})
		q.Add(reconcile.Key{Name: "before"})
		for term := range 2 {
			ctx, end := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- q.Run(ctx, func() { q.Add(reconcile.Key{Name: fmt.Sprint("seed", term)}) }) }()
			synctest.Wait()
			q.Add(reconcile.Key{Name: fmt.Sprint("news", term)})
			synctest.Wait()
			end()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			q.Add(reconcile.Key{Name: "between"})
		}
		if got := fmt.Sprint(worked); got != "[seed0 news0 seed1 news1]" {
			t.Errorf("worked on %s", got)
		}
	})
}

func TestConflictWaitsForTheNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		env := Env{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()}
		q := env.Queue("test", 1, func(context.Context, reconcile.Key) (reconcile.Result, error) {
			if at = append(at, time.Since(begin)); len(at) < 3 {
				return reconcile.Result{}, fmt.Errorf("update: %w", apierrors.NewConflict(schema.GroupResource{}, "x", nil))
			}
			return reconcile.Result{}, nil
		})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx, func() { q.Add(reconcile.Key{Name: "x"}) }) }()
		time.Sleep(100 * time.Millisecond)
		q.Add(reconcile.Key{Name: "x"}) // the news
		time.Sleep(5 * time.Second)
		end()
		<-done //nolint:errcheck // how it ended does not matter here
		if fmt.Sprint(at) != fmt.Sprint([]time.Duration{0, 100 * time.Millisecond, stale}) {
			t.Errorf("worked at %v", at)
		}
	})
}

func TestLastFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, activity := Env{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()}.Noted()
		fails := true
		q := env.Queue("test", 1, func(context.Context, reconcile.Key) (reconcile.Result, error) {
			if fails {
				fails = false
				return reconcile.Result{}, fmt.Errorf("no")
			}
			return reconcile.Result{}, nil
		})
		if activity.LastFailure() != nil || activity.Waiting() != 0 {
			t.Error("busy before its term")
		}
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx, func() { q.Add(reconcile.Key{Name: "x"}) }) }()
		time.Sleep(time.Second)
		if f := activity.LastFailure(); f == nil || f.Key != "x" || f.Error != "no" {
			t.Errorf("%+v", f)
		}
		end()
		<-done //nolint:errcheck // how it ended does not matter here
	})
}

func TestHealthNamesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, activity := Env{Log: zap.NewNop(), Metrics: prometheus.NewRegistry()}.Noted()
		q := env.Queue("test", 1, func(ctx context.Context, _ reconcile.Key) (reconcile.Result, error) {
			<-ctx.Done()
			return reconcile.Result{}, nil
		})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx, func() { q.Add(reconcile.Key{Name: "x"}) }) }()
		synctest.Wait()
		if err := activity.Health(time.Now()); err != nil {
			t.Error(err)
		}
		if err := activity.Health(time.Now().Add(2 * tooLong)); err == nil {
			t.Error("nothing hangs")
		}
		end()
		<-done //nolint:errcheck // how it ended does not matter here
		if err := activity.Health(time.Now().Add(2 * tooLong)); err != nil {
			t.Error(err)
		}
	})
}
