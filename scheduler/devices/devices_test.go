package devices

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const driver = "gpu.example.com"

func ptr[T any](v T) *T { return &v }

// sliceOf is a whole pool of a node, with devices that are described as name or name:attribute=value.
func sliceOf(node string, described ...string) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-slice"}}
	s.Spec = resourcev1.ResourceSliceSpec{Driver: driver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: 1}}
	for _, text := range described {
		name, rest, _ := strings.Cut(text, ":")
		d := resourcev1.Device{Name: name, Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{}}
		if key, value, ok := strings.Cut(rest, "="); ok {
			d.Attributes[resourcev1.QualifiedName(key)] = resourcev1.DeviceAttribute{StringValue: &value}
		}
		s.Spec.Devices = append(s.Spec.Devices, d)
	}
	return s
}

func exactly(name string, count int64, change ...func(*resourcev1.ExactDeviceRequest)) resourcev1.DeviceRequest {
	e := &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count}
	for _, c := range change {
		c(e)
	}
	return resourcev1.DeviceRequest{Name: name, Exactly: e}
}

func all(e *resourcev1.ExactDeviceRequest) {
	e.AllocationMode, e.Count = resourcev1.DeviceAllocationModeAll, 0
}
func admin(e *resourcev1.ExactDeviceRequest) { e.AdminAccess = ptr(true) }

func selecting(expression string) func(*resourcev1.ExactDeviceRequest) {
	return func(e *resourcev1.ExactDeviceRequest) {
		e.Selectors = append(e.Selectors, resourcev1.DeviceSelector{CEL: &resourcev1.CELDeviceSelector{Expression: expression}})
	}
}

func needing(capacity, quantity string) func(*resourcev1.ExactDeviceRequest) {
	return func(e *resourcev1.ExactDeviceRequest) {
		e.Capacity = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{resourcev1.QualifiedName(capacity): resource.MustParse(quantity)}}
	}
}

func claimOf(name string, requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	c.Spec.Devices.Requests = requests
	return c
}

func allocated(name string, a resourcev1.AllocationResult) *resourcev1.ResourceClaim {
	c := claimOf(name)
	c.Status.Allocation = &a
	return c
}

// inventory has class gpu, whose devices are those of the driver.
func inventory(list ...*resourcev1.ResourceSlice) *Inventory {
	v := New()
	v.Classes["gpu"] = &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{
		Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "` + driver + `"`}}},
	}}
	for _, s := range list {
		v.SetSlice(s)
	}
	return v
}

func nodeOf(name string, labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		n.Labels[key] = value
	}
	return n
}

// got writes an allocation as "request=device ..." for each claim.
func got(results []resourcev1.AllocationResult) string {
	var parts []string
	for _, a := range results {
		for _, r := range a.Devices.Results {
			parts = append(parts, r.Request+"="+r.Device)
		}
		parts = append(parts, "|")
	}
	return strings.TrimSuffix(strings.Join(parts, " "), " |")
}

func try(v *Inventory, node *corev1.Node, claims ...*resourcev1.ResourceClaim) string {
	results, err := v.Allocate(node, claims, &Budget{Steps: 10_000})
	if err != nil {
		return "error: " + err.Error()
	}
	if results == nil {
		return "none"
	}
	return got(results)
}

func TestAllocate(t *testing.T) {
	n := nodeOf("n", "zone=a")
	three := func() *resourcev1.ResourceSlice { return sliceOf("n", "d0:model=a", "d1:model=b", "d2:model=a") }
	model := `device.attributes["gpu.example.com"].model == `
	matching := func(c *resourcev1.ResourceClaim) *resourcev1.ResourceClaim {
		c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{MatchAttribute: ptr(resourcev1.FullyQualifiedName(driver + "/model"))}}
		return c
	}
	distinct := func(c *resourcev1.ResourceClaim) *resourcev1.ResourceClaim {
		c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{DistinctAttribute: ptr(resourcev1.FullyQualifiedName(driver + "/model"))}}
		return c
	}
	either := resourcev1.DeviceRequest{Name: "r", FirstAvailable: []resourcev1.DeviceSubRequest{
		{Name: "many", DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 5},
		{Name: "b", DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1,
			Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: model + `"b"`}}}},
	}}
	for name, test := range map[string]struct {
		inventory *Inventory
		claims    []*resourcev1.ResourceClaim
		want      string
	}{
		"the first of many":                      {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1))}, "r=d0"},
		"two requests get two devices":           {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1), exactly("s", 2))}, "r=d0 s=d1 s=d2"},
		"two claims get two devices":             {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 2)), claimOf("d", exactly("r", 1))}, "r=d0 r=d1 | r=d2"},
		"more than there are":                    {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 4))}, "none"},
		"none on the node":                       {inventory(sliceOf("other", "d0")), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1))}, "none"},
		"a selector":                             {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1, selecting(model+`"b"`)))}, "r=d1"},
		"all that a selector selects":            {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 0, all, selecting(model+`"a"`)))}, "r=d0 r=d2"},
		"all of none":                            {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 0, all, selecting(model+`"z"`)))}, "none"},
		"a selector that fails":                  {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1, selecting(`device.attributes["gpu.example.com"].none == 1`)))}, `error: claim default/c: request r or its class gpu: selector #0: CEL runtime error: no such key: none`},
		"going back for an earlier request":      {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1), exactly("s", 1, selecting(model+`"a"`)), exactly("t", 1, selecting(model+`"a"`)))}, "r=d1 s=d0 t=d2"},
		"alike in an attribute":                  {inventory(three()), []*resourcev1.ResourceClaim{matching(claimOf("c", exactly("r", 2)))}, "r=d0 r=d2"},
		"different in an attribute":              {inventory(three()), []*resourcev1.ResourceClaim{distinct(claimOf("c", exactly("r", 2)))}, "r=d0 r=d1"},
		"too many that differ":                   {inventory(three()), []*resourcev1.ResourceClaim{distinct(claimOf("c", exactly("r", 3)))}, "none"},
		"the second best":                        {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", either)}, "r/b=d1"},
		"a class that is not there":              {New(), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1))}, "error: claim default/c, request r: device class gpu does not exist"},
		"more than a claim can hold":             {inventory(three()), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 33))}, "none"},
		"the administrator takes what is in use": {inUse(three(), "d0"), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1, admin))}, "r=d0"},
		"others do not":                          {inUse(three(), "d0"), []*resourcev1.ResourceClaim{claimOf("c", exactly("r", 1))}, "r=d1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := try(test.inventory, n, test.claims...); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// inUse is an inventory with a device given to somebody.
func inUse(s *resourcev1.ResourceSlice, device string) *Inventory {
	v := inventory(s)
	v.SetClaim(allocated("user", resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
		Results: []resourcev1.DeviceRequestAllocationResult{{Driver: driver, Pool: s.Spec.Pool.Name, Device: device}},
	}}))
	return v
}

func TestTakenFromDecisionToRemoval(t *testing.T) {
	v, n := inventory(sliceOf("n", "d0")), nodeOf("n")
	c, other := claimOf("c", exactly("r", 1)), claimOf("other", exactly("r", 1))
	v.SetClaim(c)
	results, err := v.Allocate(n, []*resourcev1.ResourceClaim{c}, &Budget{Steps: 10})
	if err != nil || got(results) != "r=d0" {
		t.Fatalf("%s, %v", got(results), err)
	}
	expect := func(when, want string) {
		t.Helper()
		if got := try(v, n, other); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	v.Assume(c.UID, &results[0])
	expect("decided", "none")
	v.SetClaim(c.DeepCopy()) // the finalizer was written
	expect("on the way", "none")
	v.Doubt(c.UID)
	expect("in doubt", "none")
	if v.Pending(c.UID) {
		t.Error("a doubted decision is pending")
	}
	done := c.DeepCopy()
	done.Status.Allocation = &results[0]
	v.SetClaim(done)
	v.Forget(c.UID)
	expect("confirmed", "none")
	v.SetClaim(c)
	expect("given back", "r=d0")
	v.SetClaim(done)
	v.RemoveClaim("default", "c")
	expect("removed", "r=d0")
	if len(v.taken)+len(v.pending)+len(v.doubted) > 0 {
		t.Errorf("something is left: %v %v %v", v.taken, v.pending, v.doubted)
	}
}

func TestPools(t *testing.T) {
	v, a, b := New(), nodeOf("a", "zone=a"), nodeOf("b", "zone=b")
	v.Classes = inventory().Classes
	c := claimOf("c", exactly("r", 1))
	net := func(name string, generation, count int64, device string) *resourcev1.ResourceSlice {
		s := sliceOf("", device)
		s.Name, s.Spec.NodeName = name, nil
		s.Spec.Pool = resourcev1.ResourcePool{Name: "net", Generation: generation, ResourceSliceCount: count}
		s.Spec.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: "In", Values: []string{"a"}}}}}}
		return s
	}
	expect := func(when string, n *corev1.Node, want string) {
		t.Helper()
		if got := try(v, n, c); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	v.SetSlice(net("s1", 1, 2, "d0"))
	expect("half a pool", a, "none")
	if got := try(v, a, claimOf("c", exactly("r", 0, all))); !strings.Contains(got, "is currently being updated") {
		t.Errorf("all of half a pool: %s", got)
	}
	v.SetSlice(net("s2", 1, 2, "d1"))
	expect("a whole pool", a, "r=d0")
	expect("on another node", b, "none")
	v.SetSlice(net("s3", 2, 1, "d9"))
	expect("a newer generation", a, "r=d9")
	v.SetSlice(net("s4", 2, 2, "d9"))
	v.SetSlice(net("s3", 2, 2, "d9"))
	expect("a name twice", a, "error: "+ErrPool.Error())
	for _, name := range []string{"s1", "s2", "s3", "s4"} {
		v.RemoveSlice(name)
	}
	expect("nothing left", a, "none")
	if len(v.pools)+len(v.wide)+len(v.local)+len(v.slices) > 0 {
		t.Error("something of the pools is left")
	}
}

func TestSharedDevice(t *testing.T) {
	s := sliceOf("n", "nic")
	s.Spec.Devices[0].AllowMultipleAllocations = ptr(true)
	s.Spec.Devices[0].Capacity = map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"bandwidth": {Value: resource.MustParse("10"), RequestPolicy: &resourcev1.CapacityRequestPolicy{
		Default: ptr(resource.MustParse("1")), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: ptr(resource.MustParse("2")), Step: ptr(resource.MustParse("2")), Max: ptr(resource.MustParse("8"))},
	}}}
	v, n := inventory(s), nodeOf("n")
	for i, test := range []struct{ ask, want, drawn string }{{"5", "r=nic", "6"}, {"9", "none", ""}, {"", "r=nic", "1"}, {"3", "none", ""}, {"1", "r=nic", "2"}} {
		c := claimOf(fmt.Sprint("c", i), exactly("r", 1))
		if test.ask != "" {
			needing("bandwidth", test.ask)(c.Spec.Devices.Requests[0].Exactly)
		}
		results, err := v.Allocate(n, []*resourcev1.ResourceClaim{c}, &Budget{Steps: 10})
		if err != nil || test.want == "none" != (results == nil) {
			t.Fatalf("asked for %q: %v, %v", test.ask, results, err)
		}
		if results == nil {
			continue
		}
		r := results[0].Devices.Results[0]
		if q := r.ConsumedCapacity["bandwidth"]; q.String() != test.drawn || r.ShareID == nil {
			t.Errorf("asked for %q: took %s, share %v, want %s", test.ask, q.String(), r.ShareID, test.drawn)
		}
		c.Status.Allocation = &results[0]
		v.SetClaim(c)
	}
	v.RemoveClaim("default", "c0")
	if got := try(v, n, claimOf("d", exactly("r", 1, needing("bandwidth", "6")))); got != "r=nic" {
		t.Errorf("after a share was given back: %s", got)
	}
}

func TestCountersOfPartitions(t *testing.T) {
	memory := func(q string) map[string]resourcev1.Counter {
		return map[string]resourcev1.Counter{"memory": {Value: resource.MustParse(q)}}
	}
	sets := sliceOf("n")
	sets.Name, sets.Spec.Pool.ResourceSliceCount = "sets", 2
	sets.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "card", Counters: memory("40Gi")}}
	parts := sliceOf("n", "whole", "half0", "half1")
	parts.Spec.Pool.ResourceSliceCount = 2
	for i, q := range []string{"40Gi", "20Gi", "20Gi"} {
		parts.Spec.Devices[i].ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "card", Counters: memory(q)}}
	}
	v, n := inventory(sets, parts), nodeOf("n")
	if got := try(v, n, claimOf("c", exactly("r", 2))); got != "r=half0 r=half1" {
		t.Errorf("two parts: %s", got)
	}
	if got := try(v, n, claimOf("c", exactly("r", 3))); got != "none" {
		t.Errorf("the whole and its halves: %s", got)
	}
	used := inUse(parts, "half1")
	used.SetSlice(sets)
	if got := try(used, n, claimOf("c", exactly("r", 1))); got != "r=half0" {
		t.Errorf("beside a half: %s", got)
	}
}

func TestTaints(t *testing.T) {
	s := sliceOf("n", "d0", "d1")
	s.Spec.Devices[0].Taints = []resourcev1.DeviceTaint{{Key: "broken", Value: "yes", Effect: resourcev1.DeviceTaintEffectNoSchedule}}
	s.Spec.Devices[1].Taints = []resourcev1.DeviceTaint{{Key: "old", Effect: resourcev1.DeviceTaintEffectNone}}
	v, n := inventory(s), nodeOf("n")
	if got := try(v, n, claimOf("c", exactly("r", 1))); got != "r=d1" {
		t.Errorf("got %s", got)
	}
	for value, want := range map[string]string{"yes": "r=d0 r=d1", "no": "none"} {
		c := claimOf("c", exactly("r", 2, func(e *resourcev1.ExactDeviceRequest) {
			e.Tolerations = []resourcev1.DeviceToleration{{Key: "broken", Operator: resourcev1.DeviceTolerationOpEqual, Value: value}}
		}))
		if got := try(v, n, c); got != want {
			t.Errorf("tolerating %s: %s, want %s", value, got, want)
		}
	}
}

// TestGivesUp asks for what only trying all combinations can show to be impossible.
func TestGivesUp(t *testing.T) {
	var names []string
	for i := range 32 {
		names = append(names, fmt.Sprint("d", i, ":half=", i%2))
	}
	c := claimOf("c", exactly("r", 17))
	c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{MatchAttribute: ptr(resourcev1.FullyQualifiedName(driver + "/half"))}}
	c.Spec.Devices.Requests = append(c.Spec.Devices.Requests, exactly("s", 10))
	_, err := inventory(sliceOf("n", names...)).Allocate(nodeOf("n"), []*resourcev1.ResourceClaim{c}, &Budget{Steps: 50_000})
	if !errors.Is(err, ErrBudget) {
		t.Errorf("error %v", err)
	}
}

// TestConfiguration checks what drivers are told, and from where the devices can be reached.
func TestConfiguration(t *testing.T) {
	v := inventory(sliceOf("n", "d0", "d1"))
	opaque := func(text string) resourcev1.DeviceConfiguration {
		return resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: text}}
	}
	v.Classes["gpu"].Spec.Config = []resourcev1.DeviceClassConfiguration{{DeviceConfiguration: opaque("class")}}
	c := claimOf("c", exactly("r", 1), exactly("s", 1))
	c.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{{DeviceConfiguration: opaque("for all")}, {Requests: []string{"s"}, DeviceConfiguration: opaque("for s")}, {Requests: []string{"x"}, DeviceConfiguration: opaque("for x")}}
	results, err := v.Allocate(nodeOf("n"), []*resourcev1.ResourceClaim{c}, &Budget{Steps: 10})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, config := range results[0].Devices.Config {
		text += fmt.Sprintf("%s %v %s; ", config.Source, config.Requests, config.Opaque.Driver)
	}
	if want := "FromClass [r s] class; FromClaim [] for all; FromClaim [s] for s; "; text != want {
		t.Errorf("got %s want %s", text, want)
	}
	if s := results[0].NodeSelector; s == nil || s.NodeSelectorTerms[0].MatchFields[0].Values[0] != "n" {
		t.Errorf("node selector %v", s)
	}
}
