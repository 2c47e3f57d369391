package robustness

import (
	"reflect"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	controlPlane, nodes := []string{"c0", "c1", "c2"}, []string{"w0", "w1"}
	plan := Plan(7, 12*time.Hour, controlPlane, nodes)
	if !reflect.DeepEqual(plan, Plan(7, 12*time.Hour, controlPlane, nodes)) {
		t.Error("one seed gives two plans")
	}
	if reflect.DeepEqual(plan[:5], Plan(8, 12*time.Hour, controlPlane, nodes)[:5]) {
		t.Error("two seeds give one plan")
	}
	if short := Plan(7, 10*time.Minute, controlPlane, nodes); !reflect.DeepEqual(short, plan[:len(short)]) {
		t.Error("a shorter run is not the beginning of a longer one")
	}
	seen := map[string]bool{}
	free := time.Duration(0)
	for _, f := range plan {
		seen[f.Kind] = true
		if f.At < free+calmLeast {
			t.Errorf("%s begins before the cluster has had its rest", f)
		}
		free = f.At + f.For
		if f.Other != "" && f.Other == f.Machine {
			t.Errorf("%s: a machine cannot be cut off from itself", f)
		}
	}
	if free > 12*time.Hour {
		t.Errorf("the last fault ends at %s", free)
	}
	for _, k := range kinds {
		if !seen[k.name] {
			t.Errorf("%q never happens", k.name)
		}
		if injectors[k.name] == nil {
			t.Errorf("nobody knows how to do %q", k.name)
		}
	}
	if len(injectors) != len(kinds) {
		t.Errorf("%d kinds of faults, %d ways to do them", len(kinds), len(injectors))
	}
}
