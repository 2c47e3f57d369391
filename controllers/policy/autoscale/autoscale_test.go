package autoscale

import (
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pods makes pods a, b, c ... that ask for one CPU each. Letters: r ready, p pending, u unready, s just started, d
// deleted, f failed.
func pods(kinds string) []*corev1.Pod {
	var out []*corev1.Pod
	for i, k := range kinds {
		old := metav1.NewTime(now.Add(-time.Hour))
		ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: old}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: string(rune('a' + i))}, Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &old}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}}
		switch k {
		case 'p':
			pod.Status.Phase = corev1.PodPending
		case 'f':
			pod.Status.Phase = corev1.PodFailed
		case 'd':
			pod.DeletionTimestamp = &old
		case 'u': // never was ready
			ready.Status = corev1.ConditionFalse
		case 's':
			pod.Status.StartTime, ready.LastTransitionTime = &metav1.Time{Time: now.Add(-20 * time.Second)}, metav1.NewTime(now.Add(-10*time.Second))
		}
		pod.Status.Conditions = []corev1.PodCondition{ready}
		out = append(out, pod)
	}
	return out
}

func TestReplicasFor(t *testing.T) {
	for name, c := range map[string]struct {
		kinds    string
		use      []int64 // thousandths of a CPU by pod; -1: no sample
		target   int64   // percent
		replicas int32
		average  int64
	}{
		"as it should be":                         {"rrr", []int64{500, 500, 500}, 50, 3, 50},
		"within the tolerance":                    {"rrr", []int64{540, 540, 540}, 50, 3, 54},
		"more":                                    {"rrr", []int64{900, 900, 900}, 50, 6, 90},
		"less":                                    {"rrrr", []int64{100, 100, 100, 100}, 50, 1, 10},
		"rounds up":                               {"rr", []int64{600, 600}, 50, 3, 60},
		"no noise":                                {"rrr", []int64{600, 600, 600}, 60, 3, 60},
		"pending pods damp":                       {"rrrp", []int64{900, 900, 900, -1}, 50, 6, 90},
		"pending pods may stop it":                {"rpp", []int64{900, -1, -1}, 50, 3, 90},
		"starting pods' use does not count":       {"rs", []int64{500, 5000}, 50, 2, 50},
		"unready pods' use does not count":        {"ru", []int64{500, 5000}, 50, 2, 50},
		"missing pods are at rest when growing":   {"rrr", []int64{1000, 1000, -1}, 50, 4, 100},
		"missing pods are busy when shrinking":    {"rrrr", []int64{100, 100, 100, -1}, 50, 3, 10},
		"missing pods never turn the direction":   {"rrr", []int64{300, -1, -1}, 50, 3, 30},
		"deleted and failed pods are not counted": {"rrdf", []int64{500, 500, 9000, 9000}, 50, 4, 50},
	} {
		t.Run(name, func(t *testing.T) {
			all := pods(c.kinds)
			samples := map[string]sample{}
			for i, v := range c.use {
				if v >= 0 {
					samples[all[i].Name] = sample{v, now, 30 * time.Second}
				}
			}
			requests, err := requestsOf(all, corev1.ResourceCPU, "")
			if err != nil {
				t.Fatal(err)
			}
			g := group(all, samples, readiness{cpu: true, initial: 2 * time.Hour, period: 5 * time.Minute}, now)
			n, average, err := replicasFor(int32(len(all)), g, goal{target: c.target, requests: requests}, tolerance{0.1, 0.1})
			if err != nil || n != c.replicas || average != c.average {
				t.Errorf("%d at %d%%, %v; want %d at %d%%", n, average, err, c.replicas, c.average)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	all := pods("r")
	if _, err := requestsOf(all, corev1.ResourceMemory, ""); err == nil || !strings.Contains(err.Error(), "missing request for memory in container c of Pod a") {
		t.Error(err)
	}
	if _, err := requestsOf(all, corev1.ResourceCPU, "other"); err == nil || !strings.Contains(err.Error(), "container other not found in Pod a") {
		t.Error(err)
	}
	all[0].Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}
	if got, err := requestsOf(all, corev1.ResourceCPU, ""); err != nil || got["a"] != 3000 {
		t.Error(got, err)
	}
}

func TestReplicasForTotal(t *testing.T) {
	for name, c := range map[string]struct {
		current, ready int32
		value, target  int64
		perPod         bool
		want           int32
	}{
		"twice the value":       {3, 3, 20, 10, false, 6},
		"only ready pods count": {3, 2, 20, 10, false, 4},
		"within":                {3, 3, 105, 100, false, 3},
		"from none":             {0, 0, 25, 10, false, 3},
		"per pod":               {3, 3, 50, 10, true, 5},
		"per pod, within":       {5, 5, 51, 10, true, 5},
		"per pod, from none":    {0, 0, 50, 10, true, 5},
	} {
		if got := replicasForTotal(c.current, c.ready, c.value, c.target, c.perPod, tolerance{0.1, 0.1}); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	policies := func(choice autoscalingv2.ScalingPolicySelect, window int32, list ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{SelectPolicy: &choice, StabilizationWindowSeconds: &window, Policies: list}
	}
	pct := func(v, period int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: v, PeriodSeconds: period}
	}
	num := func(v, period int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: v, PeriodSeconds: period}
	}
	ago := func(s int, n int32) []event { return []event{{now.Add(-time.Duration(s) * time.Second), n}} }
	const biggest, smallest, disabled = autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
	for name, c := range map[string]struct {
		current, desired int32
		past             past
		up, down         *autoscalingv2.HPAScalingRules
		want             string
	}{
		"as desired":                 {3, 5, past{}, nil, nil, "5 DesiredWithinRange"},
		"four more at most":          {2, 20, past{}, nil, nil, "6 ScaleUpLimit"},
		"twice as many at most":      {10, 90, past{}, nil, nil, "20 ScaleUpLimit"},
		"the maximum":                {10, 900, past{ups: nil}, policies(biggest, 0, pct(900, 15)), nil, "50 TooManyReplicas"},
		"the minimum":                {5, 0, past{}, nil, nil, "1 TooFewReplicas"},
		"patience":                   {9, 3, past{recommended: ago(200, 7)}, nil, nil, "7 DesiredWithinRange"},
		"patience is over":           {9, 3, past{recommended: ago(301, 7)}, nil, nil, "3 DesiredWithinRange"},
		"a window for growing":       {3, 9, past{recommended: ago(20, 4)}, policies(biggest, 60), nil, "4 DesiredWithinRange"},
		"what grew counts":           {6, 20, past{ups: ago(10, 4)}, nil, nil, "6 ScaleUpLimit"},
		"what grew long ago":         {6, 20, past{ups: ago(16, 4)}, nil, nil, "12 ScaleUpLimit"},
		"the smaller step":           {10, 90, past{}, policies(smallest, 0, pct(100, 15), num(4, 15)), nil, "14 ScaleUpLimit"},
		"no growing":                 {10, 90, past{}, policies(disabled, 0), nil, "10 ScaleUpLimit"},
		"slowly down":                {10, 2, past{}, nil, policies(biggest, 0, num(1, 60)), "9 ScaleDownLimit"},
		"slowly down, had its share": {9, 2, past{downs: ago(30, 1)}, nil, policies(biggest, 0, num(1, 60)), "9 ScaleDownLimit"},
		"a part down":                {10, 1, past{}, nil, policies(biggest, 0, pct(10, 60)), "9 ScaleDownLimit"},
		"no shrinking":               {10, 1, past{}, nil, policies(disabled, 0), "10 ScaleDownLimit"},
	} {
		d := decide(c.current, c.desired, &c.past, limits{least: 1, most: 50, up: c.up, down: c.down, patience: 5 * time.Minute}, now)
		if got := fmt.Sprintf("%d %s", d.replicas, d.limitedReason); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestRate: a counter becomes a rate from the second reading on, and a new container does not burn a negative amount.
func TestRate(t *testing.T) {
	n := newNodes(nil)
	second := uint64(time.Second)
	for i, c := range []struct {
		after time.Duration
		nanos uint64
		want  int64
		known bool
	}{
		{0, 10 * second, 0, false}, {10 * time.Second, 15 * second, 500, true}, {10 * time.Second, 15 * second, 500, true},
		{20 * time.Second, second, 0, false}, {30 * time.Second, 21 * second, 2000, true},
	} {
		s := n.rate("ns/pod/c", now.Add(c.after), c.nanos)
		if s.value != c.want || s.at.IsZero() == c.known {
			t.Errorf("%d: %+v, want %d", i, s, c.want)
		}
	}
}
