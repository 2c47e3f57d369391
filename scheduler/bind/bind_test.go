package bind

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/scheduler/framework"
)

// steps is a plugin at all points after the decision that writes down when it was asked.
type steps struct {
	mu    sync.Mutex
	asked []string // guarded by mu
	fails string   // the point at which it says no
}

func (s *steps) at(point string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, point)
	if s.fails == point {
		return errors.New("no")
	}
	return nil
}

func (*steps) Name() string                                                 { return "Steps" }
func (s *steps) Permit(context.Context, *framework.Pod, string) error       { return s.at("permit") }
func (*steps) Waits(any) bool                                               { return true }
func (s *steps) PreBind(context.Context, any, *framework.Pod, string) error { return s.at("preBind") }
func (s *steps) Bind(context.Context, *framework.Pod, string) error         { return s.at("bind") }
func (s *steps) PostBind(*framework.Pod, string)                            { _ = s.at("postBind") }
func (*steps) Event(_ runtime.Object, _, _, _ string, _ ...any)             {}

func TestOrderOfPoints(t *testing.T) {
	for name, test := range map[string]struct {
		fails string
		old   time.Duration
		want  []string
		wrong bool
	}{
		"all agree":             {want: []string{"permit", "preBind", "bind", "postBind"}},
		"permit says no":        {fails: "permit", want: []string{"permit"}, wrong: true},
		"preBind fails":         {fails: "preBind", want: []string{"permit", "preBind"}, wrong: true},
		"the API says no":       {fails: "bind", want: []string{"permit", "preBind", "bind"}, wrong: true},
		"an old decision falls": {old: time.Hour, wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &steps{fails: test.fails}
			b := New(nil, s, time.Minute, zap.NewNop())
			profile := &framework.Profile{Permit: []framework.Permit{s}, PreBind: []framework.PreBind{s}, Bind: s, PostBind: []framework.PostBind{s}}
			pod := &framework.Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}}}
			done := make(chan error, 1)
			b.Bind(t.Context(), Task{Pod: pod, Node: "n", Profile: profile, State: func(string) any { return 1 }, Decided: time.Now().Add(-test.old)}, func(err error) { done <- err })
			if err := <-done; (err != nil) != test.wrong {
				t.Errorf("error %v", err)
			}
			b.Wait()
			if !slices.Equal(s.asked, test.want) {
				t.Errorf("asked at %v, want %v", s.asked, test.want)
			}
		})
	}
}
