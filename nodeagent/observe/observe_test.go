package observe

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/runtime"
)

type source struct {
	pods   []runtime.PodStatus
	events chan runtime.Event
}

func (s *source) Pods(context.Context) ([]runtime.PodStatus, error) { return s.pods, nil }
func (s *source) Events() <-chan runtime.Event                      { return s.events }

// told records what the workers are told; pods whose name begins with k are known to them.
type told struct {
	mu   sync.Mutex
	list []string
}

func (l *told) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, s)
}

func (l *told) Wake(u types.UID)            { l.add("wake " + string(u)) }
func (l *told) WakeAll()                    { l.add("all") }
func (l *told) Known(u types.UID) bool      { return strings.HasPrefix(string(u), "k") }
func (l *told) Sweep(context.Context) error { l.add("sweep"); return nil }
func (l *told) Adopt(p runtime.PodStatus)   { l.add("adopt " + string(p.Config.UID)) }

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{events: make(chan runtime.Event), pods: []runtime.PodStatus{{Config: runtime.PodConfig{UID: "k1"}}, {Config: runtime.PodConfig{UID: "lost"}}}}
		var got told
		o := New(s, &got, zap.NewNop(), prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		s.events <- runtime.Event{UID: "k1", Container: runtime.Status{State: runtime.Exited, FinishedAt: time.Now()}}
		time.Sleep(relistEvery + time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := "[adopt lost all sweep wake k1 adopt lost all sweep]"
		if fmt.Sprint(got.list) != want {
			t.Errorf("told %v, want %s", got.list, want)
		}
	})
}
