package fairness

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"hardway/apiserver/request"
)

func TestFind(t *testing.T) {
	p := First(600)
	lease := &request.Info{IsResource: true, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"}
	for name, test := range map[string]struct {
		user *request.UserInfo
		info *request.Info
		want string
	}{
		"an administrator":      {&request.UserInfo{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}}, lease, "exempt/exempt"},
		"a leader":              {&request.UserInfo{Name: "system:kube-scheduler", Groups: []string{"system:authenticated"}}, lease, "system-leader-election/leader-election"},
		"a node's lease":        {&request.UserInfo{Name: "system:node:a", Groups: []string{"system:nodes", "system:authenticated"}}, lease, "system-node-high/node-high"},
		"a node's pods":         {&request.UserInfo{Name: "system:node:a", Groups: []string{"system:nodes"}}, &request.Info{IsResource: true, Verb: "list", Resource: "pods"}, "system-nodes/system"},
		"a controller":          {&request.UserInfo{Name: "system:serviceaccount:kube-system:x", Groups: []string{"system:serviceaccounts"}}, &request.Info{IsResource: true, Verb: "list", Resource: "pods"}, "kube-system-service-accounts/workload-high"},
		"a pod":                 {&request.UserInfo{Name: "system:serviceaccount:a:x", Groups: []string{"system:serviceaccounts"}}, &request.Info{IsResource: true, Verb: "list", Resource: "pods"}, "service-accounts/workload-low"},
		"a person":              {&request.UserInfo{Name: "jane", Groups: []string{"system:authenticated"}}, &request.Info{IsResource: true, Verb: "list", Resource: "pods"}, "global-default/global-default"},
		"a probe":               {&request.UserInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, &request.Info{Verb: "get", Path: "/readyz"}, "probes/exempt"},
		"somebody of no groups": {&request.UserInfo{Name: "x"}, &request.Info{Verb: "get", Path: "/version"}, "catch-all/catch-all"},
	} {
		got := p.Find(test.user, test.info)
		if got.Schema+"/"+got.Level != test.want {
			t.Errorf("%s: %s/%s, want %s", name, got.Schema, got.Level, test.want)
		}
	}
}

// small is a plan with one level of two seats, two queues of two and no lending, and one that lends.
func small(lends int32) *Plan {
	two, zero, half := int32(20), int32(0), lends
	mk := func(name string, lend *int32) *flowcontrolv1.PriorityLevelConfiguration {
		l := &flowcontrolv1.PriorityLevelConfiguration{}
		l.Name = name
		l.Spec.Type = flowcontrolv1.PriorityLevelEnablementLimited
		l.Spec.Limited = &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &two, LendablePercent: lend, BorrowingLimitPercent: nil,
			LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 2, HandSize: 1, QueueLengthLimit: 2}}}
		return l
	}
	return NewPlan(4, []*flowcontrolv1.PriorityLevelConfiguration{mk("a", &zero), mk("b", &half)}, nil, nil, nil)
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(small(0))
		ctx, at := t.Context(), Place{Level: "a", flow: 0}
		first, _ := g.Enter(ctx, at, time.Minute)
		second, _ := g.Enter(ctx, at, time.Minute)
		if first == nil || second == nil {
			t.Fatal("there were two seats")
		}
		let := make(chan string, 4)
		for range 2 {
			go func() {
				_, why := g.Enter(ctx, at, time.Minute)
				let <- why
			}()
		}
		synctest.Wait()
		if _, why := g.Enter(ctx, at, time.Minute); why != QueueFull {
			t.Errorf("a third one waits: %q", why)
		}
		if leave, _ := g.Enter(ctx, Place{Level: "b"}, time.Minute); leave == nil {
			t.Error("another level is full as well")
		}
		first()
		if why := <-let; why != "" {
			t.Errorf("who waited was sent away: %s", why)
		}
		time.Sleep(time.Minute)
		if why := <-let; why != TimeOut {
			t.Errorf("patience did not end: %q", why)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, why := g.Enter(gone, at, time.Minute); why != Cancelled {
			t.Errorf("a client that went: %q", why)
		}
		for _, l := range g.Levels() {
			if l.Name == "a" && (l.Running != 2 || l.Waiting != 0) {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestLending(t *testing.T) {
	g := NewGate(small(50))
	at := Place{Level: "a"}
	for i := range 3 {
		if leave, why := g.Enter(t.Context(), at, 0); leave == nil {
			t.Fatalf("request %d: %s", i, why)
		}
	}
	if leave, _ := g.Enter(t.Context(), at, time.Millisecond); leave != nil {
		t.Error("more was lent than the other level lends")
	}
}

func TestHand(t *testing.T) {
	used := map[int]bool{}
	for flow := range uint64(200) {
		h := hand(mix(flow), 64, 6)
		if again := hand(mix(flow), 64, 6); !slices.Equal(h, again) || len(slices.Compact(slices.Sorted(slices.Values(h)))) != 6 {
			t.Fatalf("%v, then %v", h, again)
		}
		for _, q := range h {
			if used[q] = true; q < 0 || q > 63 {
				t.Fatalf("queue %d of 64", q)
			}
		}
	}
	if len(used) != 64 {
		t.Errorf("only %d of 64 queues are used", len(used))
	}
}
