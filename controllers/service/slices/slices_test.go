package slices

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func endpoint(n int, ready bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{fmt.Sprintf("10.0.%d.%d", n/250, n%250)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: fmt.Sprint("pod-", n)},
	}
}

func ports(numbers ...int32) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for _, n := range numbers {
		out = append(out, discoveryv1.EndpointPort{Name: new(fmt.Sprint("p", n)), Port: &n, Protocol: new(corev1.ProtocolTCP)})
	}
	return out
}

func group(port int32, endpoints ...discoveryv1.Endpoint) Group {
	return Group{Family: discoveryv1.AddressTypeIPv4, Ports: ports(port), Endpoints: endpoints}
}

func want(groups ...Group) Want {
	return Want{
		Meta: metav1.ObjectMeta{Namespace: "ns", GenerateName: "web-", Labels: map[string]string{"l": "1"}}, Groups: groups,
		Placeholders: []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}, Ours: func(s *discoveryv1.EndpointSlice) bool { return s.Annotations["foreign"] == "" },
	}
}

var serial int

// applied returns the slices after a diff.
func applied(t *testing.T, existing []*discoveryv1.EndpointSlice, d Diff) []*discoveryv1.EndpointSlice {
	t.Helper()
	out := slices.Clone(existing)
	find := func(name string) int {
		return slices.IndexFunc(out, func(s *discoveryv1.EndpointSlice) bool { return s.Name == name })
	}
	for _, s := range d.Create {
		serial++
		s.Name = fmt.Sprint("web-", serial)
		out = append(out, s)
	}
	for _, s := range d.Update {
		at := find(s.Name)
		if at < 0 {
			t.Fatalf("update of %s, which is not there", s.Name)
		}
		out[at] = s
	}
	for _, s := range d.Delete {
		at := find(s.Name)
		if at < 0 {
			t.Fatalf("deletion of %s, which is not there", s.Name)
		}
		out = slices.Delete(out, at, at+1)
	}
	return out
}

func shape(d Diff) string {
	sizes := func(list []*discoveryv1.EndpointSlice) []int {
		out := []int{}
		for _, s := range list {
			out = append(out, len(s.Endpoints))
		}
		return out
	}
	return fmt.Sprint("create ", sizes(d.Create), " update ", sizes(d.Update), " delete ", sizes(d.Delete))
}

func many(n int) []discoveryv1.Endpoint {
	var out []discoveryv1.Endpoint
	for i := range n {
		out = append(out, endpoint(i, true))
	}
	return out
}

func TestPlan(t *testing.T) {
	full := func(w Want) func(*testing.T) []*discoveryv1.EndpointSlice {
		return func(t *testing.T) []*discoveryv1.EndpointSlice { return applied(t, nil, Plan(w, nil)) }
	}
	nothing := func(*testing.T) []*discoveryv1.EndpointSlice { return nil }
	tests := []struct {
		name  string
		from  func(*testing.T) []*discoveryv1.EndpointSlice
		want  Want
		shape string
	}{
		{"nothing selected: one empty slice", nothing, want(), "create [0] update [] delete []"},
		{"the empty slice stays", full(want()), want(), "create [] update [] delete []"},
		{"the empty slice is filled, not replaced", full(want()), want(group(80, endpoint(1, true))), "create [] update [1] delete []"},
		{"first endpoints", nothing, want(group(80, many(3)...)), "create [3] update [] delete []"},
		{"more than fit", nothing, want(group(80, many(250)...)), "create [100 100 50] update [] delete []"},
		{"one more goes where there is room", full(want(group(80, many(250)...))), want(group(80, many(251)...)), "create [] update [51] delete []"},
		{"one turns unready: one write", full(want(group(80, many(3)...))), want(group(80, endpoint(0, true), endpoint(1, false), endpoint(2, true))), "create [] update [3] delete []"},
		{"one goes: one write", full(want(group(80, many(3)...))), want(group(80, many(2)...)), "create [] update [2] delete []"},
		{"all go: the slice stays, empty", full(want(group(80, many(3)...))), want(), "create [] update [0] delete []"},
		{"another port: the slice is written over", full(want(group(80, many(3)...))), want(group(81, many(3)...)), "create [] update [3] delete []"},
		{"pods with different ports", nothing, want(group(80, endpoint(1, true)), group(81, endpoint(2, true))), "create [1 1] update [] delete []"},
		{"groups with the same ports are one", nothing, want(group(80, endpoint(1, true)), group(80, endpoint(2, true))), "create [2] update [] delete []"},
		{"labels changed", full(want(group(80, many(3)...))), func() Want {
			w := want(group(80, many(3)...))
			w.Meta.Labels = map[string]string{"l": "2"}
			return w
		}(), "create [] update [3] delete []"},
		{"a slice of another owner goes", func(*testing.T) []*discoveryv1.EndpointSlice {
			return []*discoveryv1.EndpointSlice{{ObjectMeta: metav1.ObjectMeta{Name: "x", Annotations: map[string]string{"foreign": "1"}}, Endpoints: many(2)}}
		}, want(group(80, many(1)...)), "create [1] update [] delete [2]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from := tt.from(t)
			d := Plan(tt.want, from)
			if got := shape(d); got != tt.shape {
				t.Errorf("got %s, want %s", got, tt.shape)
			}
			if again := Plan(tt.want, applied(t, from, d)); !again.Empty() {
				t.Errorf("a second plan: %s", shape(again))
			}
		})
	}
}

// TestPlanKeepsUp walks through random changes: afterwards every endpoint is in exactly one slice, none holds more than
// Max, and a second plan is empty.
func TestPlanKeepsUp(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	present := map[int]bool{}
	var have []*discoveryv1.EndpointSlice
	for step := range 300 {
		for range r.IntN(60) {
			n := r.IntN(400)
			present[n] = !present[n]
		}
		var list []discoveryv1.Endpoint
		for n, yes := range present {
			if yes {
				list = append(list, endpoint(n, r.IntN(10) > 0))
			}
		}
		w := want(group(80, list...))
		have = applied(t, have, Plan(w, have))
		seen := map[string]int{}
		for _, s := range have {
			if len(s.Endpoints) > Max {
				t.Fatalf("step %d: %d endpoints in one slice", step, len(s.Endpoints))
			}
			for _, e := range s.Endpoints {
				seen[e.Addresses[0]]++
			}
		}
		if len(seen) != len(list) {
			t.Fatalf("step %d: %d endpoints, %d wanted", step, len(seen), len(list))
		}
		for a, n := range seen {
			if n != 1 {
				t.Fatalf("step %d: %s is there %d times", step, a, n)
			}
		}
		if again := Plan(w, have); !again.Empty() {
			t.Fatalf("step %d: a second plan: %s", step, shape(again))
		}
	}
}

func TestOthersAnnotationsStay(t *testing.T) {
	have := applied(t, nil, Plan(want(group(80, many(1)...)), nil))
	have[0].Annotations = map[string]string{"mine": "x", corev1.EndpointsLastChangeTriggerTime: "old"}
	w := want(group(80, many(2)...))
	d := Plan(w, have)
	if a := d.Update[0].Annotations; len(a) != 1 || a["mine"] != "x" {
		t.Errorf("annotations %v", a)
	}
	w.ExactAnnotations, w.Meta.Annotations = true, map[string]string{"theirs": "y"}
	if a := Plan(w, have).Update[0].Annotations; len(a) != 1 || a["theirs"] != "y" {
		t.Errorf("exact annotations %v", a)
	}
}
