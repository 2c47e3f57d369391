package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"

	"hardway/scheduler/devices"
)

// TestSameDevices gives random slices, classes and claims to our search for devices and to upstream's allocator, claim after claim on the same
// cluster, and compares whether there are devices on each node, and which.
func TestSameDevices(t *testing.T) {
	compared, found, gaveUp := 0, 0, 0
	for i := range *clusters {
		w := &offers{world: &world{random: rand.New(rand.NewPCG(*seed+uint64(i), 11))}}
		c, f := w.compare(t, *seed+uint64(i))
		compared, found, gaveUp = compared+c, found+f, gaveUp+w.gaveUp
		if t.Failed() {
			return
		}
	}
	t.Logf("%d clusters, %d times claims on a node compared, %d of them with devices; %d given up", *clusters, compared, found, gaveUp)
	if gaveUp*1000 > compared {
		t.Errorf("%d of %d searches were given up", gaveUp, compared)
	}
	if found*10 < compared || found == compared {
		t.Errorf("%d of %d searches found devices: the clusters are too full or too empty to tell", found, compared)
	}
}

const driverA, driverB = "a.example.com", "b.example.com"

// offers makes random devices and claims.
type offers struct {
	*world
	slices  []*resourcev1.ResourceSlice
	classes map[string]*resourcev1.DeviceClass
	given   []*resourcev1.ResourceClaim
	gaveUp  int // how many searches ended without an answer
}

// List and Get implement structured.DeviceClassLister.
func (w *offers) List() (out []*resourcev1.DeviceClass, err error) {
	for _, c := range w.classes {
		out = append(out, c)
	}
	return out, nil
}

func (w *offers) Get(name string) (*resourcev1.DeviceClass, error) { return w.classes[name], nil }

func pointer[T any](v T) *T { return &v }

func expression(text string) []resourcev1.DeviceSelector {
	return []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: text}}}
}

func (w *offers) compare(t *testing.T, seed uint64) (compared, found int) {
	t.Helper()
	nodes := w.nodes()
	for _, n := range nodes {
		n.Labels["zone"] = w.one("a", "b")
	}
	w.classes = map[string]*resourcev1.DeviceClass{
		"any": {ObjectMeta: metav1.ObjectMeta{Name: "any"}},
		"a":   {ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: resourcev1.DeviceClassSpec{Selectors: expression(`device.driver == "` + driverA + `"`)}},
		"big": {ObjectMeta: metav1.ObjectMeta{Name: "big"}, Spec: resourcev1.DeviceClassSpec{Selectors: expression(`device.driver == "` + driverB + `" && device.attributes["` + driverB + `"].size >= 2`)}},
	}
	inventory := devices.New()
	for name, c := range w.classes {
		inventory.Classes[name] = c
	}
	w.offer(nodes)
	for _, s := range w.slices {
		inventory.SetSlice(s)
	}
	for step := range 2 + w.random.IntN(5) {
		claims := []*resourcev1.ResourceClaim{w.claim(step, 0)}
		if w.rarely(4) {
			claims = append(claims, w.claim(step, 1))
		}
		var take []resourcev1.AllocationResult
		for _, n := range nodes {
			want, wantErr := w.theirs(t, n, claims)
			got, gotErr := inventory.Allocate(n, claims, &devices.Budget{Steps: devices.DefaultBudget})
			if errors.Is(gotErr, devices.ErrBudget) { // Differs from upstream: the search has a bound in steps, and none in time.
				w.gaveUp++
				continue
			}
			if tell(got) != tell(want) || (gotErr == nil) != (wantErr == nil) {
				t.Errorf("seed %d, step %d, node %s:\nours     %s %v\nupstream %s %v\nclaims %s", seed, step, n.Name, tell(got), gotErr, tell(want), wantErr, show(claims))
				for _, s := range w.slices {
					t.Logf("slice %s", show(s))
				}
				t.Logf("given %s", show(w.given))
				return compared, found
			}
			compared++
			if got != nil {
				take = got
				found++
			}
		}
		for i := range take {
			c := claims[i].DeepCopy()
			c.Status.Allocation = &take[i]
			w.given = append(w.given, c)
			inventory.SetClaim(c)
		}
	}
	return compared, found
}

// theirs asks upstream's allocator.
func (w *offers) theirs(t *testing.T, n *corev1.Node, claims []*resourcev1.ResourceClaim) ([]resourcev1.AllocationResult, error) {
	t.Helper()
	state := structured.AllocatedState{AllocatedDevices: sets.New[structured.DeviceID](), AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](), AggregatedCapacity: structured.NewConsumedCapacityCollection()}
	for _, c := range w.given {
		for _, r := range c.Status.Allocation.Devices.Results {
			id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
			switch {
			case r.AdminAccess != nil && *r.AdminAccess:
			case r.ShareID != nil:
				state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
				state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
			default:
				state.AllocatedDevices.Insert(id)
			}
		}
	}
	features := structured.Features{AdminAccess: true, PrioritizedList: true, PartitionableDevices: true, DeviceTaints: true, DeviceBindingAndStatus: true, ConsumableCapacity: true}
	a, err := structured.NewAllocator(t.Context(), features, state, w, w.slices, cel.NewCache(10, cel.Features{EnableConsumableCapacity: true}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Allocate(t.Context(), n, claims)
	if len(out) == 0 {
		out = nil
	}
	return out, err
}

// tell writes an allocation down but for the names of shares, which are random.
func tell(results []resourcev1.AllocationResult) string {
	var b strings.Builder
	for _, a := range results {
		for _, r := range a.Devices.Results {
			fmt.Fprintf(&b, "%s=%s/%s/%s admin %v shared %v", r.Request, r.Driver, r.Pool, r.Device, r.AdminAccess != nil && *r.AdminAccess, r.ShareID != nil)
			var draws []string
			for name, q := range r.ConsumedCapacity {
				draws = append(draws, fmt.Sprint(name, " ", q.String()))
			}
			sort.Strings(draws)
			fmt.Fprintf(&b, " %v; ", draws)
		}
		fmt.Fprintf(&b, "nodes %v config %v | ", a.NodeSelector, a.Devices.Config)
	}
	return b.String()
}

// offer makes pools: of one node, of a zone, of all, and with nodes for each device.
func (w *offers) offer(nodes []*corev1.Node) {
	pool := func(name, driver string, part, parts int) *resourcev1.ResourceSlice {
		s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(name, "-", driver, "-", part)}}
		s.Spec = resourcev1.ResourceSliceSpec{Driver: driver, Pool: resourcev1.ResourcePool{Name: name, Generation: 1, ResourceSliceCount: int64(parts)}}
		w.slices = append(w.slices, s)
		return s
	}
	for _, n := range nodes {
		if !w.often(3) {
			continue
		}
		s := pool(n.Name, w.one(driverA, driverB), 0, 1)
		s.Spec.NodeName = &n.Name
		if w.rarely(3) {
			s.Spec.Pool.ResourceSliceCount = 2
			w.partitions(s, pool(n.Name, s.Spec.Driver, 1, 2))
			continue
		}
		w.fill(s, 1+w.random.IntN(4))
	}
	if w.often(2) {
		s := pool("zone", driverA, 0, 1+w.random.IntN(2)*w.random.IntN(2)) // sometimes a slice is missing
		s.Spec.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}
		w.fill(s, 1+w.random.IntN(3))
	}
	if w.rarely(3) {
		s := pool("net", driverB, 0, 1)
		s.Spec.AllNodes = pointer(true)
		w.fill(s, 1+w.random.IntN(2))
	}
	if w.rarely(3) {
		s := pool("each", driverA, 0, 1)
		s.Spec.PerDeviceNodeSelection = pointer(true)
		w.fill(s, 3)
		for i := range s.Spec.Devices {
			if s.Spec.Devices[i].NodeName = &nodes[w.random.IntN(len(nodes))].Name; w.rarely(3) {
				s.Spec.Devices[i].NodeName, s.Spec.Devices[i].AllNodes = nil, pointer(true)
			}
		}
	}
}

// partitions makes one device that can be had whole or in parts.
func (w *offers) partitions(sets, s *resourcev1.ResourceSlice) {
	s.Spec.NodeName = sets.Spec.NodeName
	memory := func(n int) map[string]resourcev1.Counter {
		return map[string]resourcev1.Counter{"memory": {Value: *resource.NewQuantity(int64(n), resource.DecimalSI)}}
	}
	sets.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "card", Counters: memory(4)}}
	w.fill(s, 4)
	for i := range s.Spec.Devices {
		s.Spec.Devices[i].ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "card", Counters: memory(1 + w.random.IntN(4))}}
	}
}

func (w *offers) fill(s *resourcev1.ResourceSlice, n int) {
	for i := range n {
		d := resourcev1.Device{Name: fmt.Sprint("d", i), Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{
			"size": {IntValue: pointer(int64(1 + w.random.IntN(3)))}, "kind": {StringValue: pointer(w.one("x", "y"))}, "shared.example.com/rack": {StringValue: pointer(w.one("r1", "r2"))},
			"version": {VersionValue: pointer(w.one("1.2.0", "1.10.0"))},
		}, Capacity: map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse(w.one("4", "10"))}}}
		if w.rarely(4) {
			delete(d.Attributes, "kind")
		}
		if w.rarely(6) {
			d.Taints = []resourcev1.DeviceTaint{{Key: w.one("k", "l"), Value: w.one("", "v"), Effect: resourcev1.DeviceTaintEffect(w.one("NoSchedule", "NoExecute", "None"))}}
		}
		if w.rarely(4) {
			d.AllowMultipleAllocations = pointer(true)
			c := d.Capacity["memory"]
			switch w.random.IntN(3) {
			case 0:
				c.RequestPolicy = &resourcev1.CapacityRequestPolicy{Default: pointer(resource.MustParse("1")), ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: pointer(resource.MustParse("1")), Step: pointer(resource.MustParse("2"))}}
			case 1:
				c.RequestPolicy = &resourcev1.CapacityRequestPolicy{Default: pointer(resource.MustParse("2")), ValidValues: []resource.Quantity{resource.MustParse("2"), resource.MustParse("4")}}
			}
			d.Capacity["memory"] = c
		}
		if w.rarely(9) {
			d.BindsToNode, d.BindingConditions, d.BindingFailureConditions = pointer(true), []string{"ready"}, []string{"failed"}
		}
		s.Spec.Devices = append(s.Spec.Devices, d)
	}
}

func (w *offers) claim(step, i int) *resourcev1.ResourceClaim {
	name := fmt.Sprint("c", step, "-", i)
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	for k := range 1 + w.random.IntN(3) {
		r := resourcev1.DeviceRequest{Name: fmt.Sprint("r", k)}
		if w.rarely(4) {
			for s := range 1 + w.random.IntN(3) {
				e := w.request()
				r.FirstAvailable = append(r.FirstAvailable, resourcev1.DeviceSubRequest{Name: fmt.Sprint("s", s), DeviceClassName: e.DeviceClassName,
					Selectors: e.Selectors, AllocationMode: e.AllocationMode, Count: e.Count, Tolerations: e.Tolerations, Capacity: e.Capacity})
			}
		} else {
			r.Exactly = w.request()
			if w.rarely(9) {
				r.Exactly.AdminAccess = pointer(true)
			}
		}
		c.Spec.Devices.Requests = append(c.Spec.Devices.Requests, r)
	}
	if w.rarely(4) {
		c.Spec.Devices.Constraints = append(c.Spec.Devices.Constraints, resourcev1.DeviceConstraint{
			MatchAttribute: pointer(resourcev1.FullyQualifiedName(w.one(driverA+"/kind", "shared.example.com/rack"))), Requests: w.some("r0", "r1"),
		})
	}
	if w.rarely(3) {
		c.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{{Requests: w.some("r0", "r0/s0"), DeviceConfiguration: resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: driverA}}}}
	}
	return c
}

// some is a part of a list, or nothing, which stands for all.
func (w *offers) some(list ...string) (out []string) {
	for _, s := range list {
		if w.rarely(2) {
			out = append(out, s)
		}
	}
	return out
}

func (w *offers) request() *resourcev1.ExactDeviceRequest {
	e := &resourcev1.ExactDeviceRequest{DeviceClassName: w.one("any", "any", "a", "big"), AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: int64(1 + w.random.IntN(2)*w.random.IntN(3))}
	if w.rarely(8) {
		e.AllocationMode, e.Count = resourcev1.DeviceAllocationModeAll, 0
	}
	switch w.random.IntN(8) {
	case 0:
		e.Selectors = expression(`device.attributes[device.driver].size > 1`)
	case 1:
		e.Selectors = expression(`device.attributes[device.driver].version.isGreaterThan(semver("1.9.0"))`)
	case 2:
		e.Selectors = expression(`device.capacity[device.driver].memory.compareTo(quantity("10")) >= 0`)
	case 3:
		e.Selectors = expression(`"kind" in device.attributes[device.driver] && device.attributes[device.driver].kind == "x"`)
	}
	if w.rarely(5) {
		e.Tolerations = []resourcev1.DeviceToleration{{Key: w.one("", "k"), Operator: resourcev1.DeviceTolerationOperator(w.one("Exists", "Equal")), Value: w.one("", "v")}}
		if e.Tolerations[0].Key == "" || e.Tolerations[0].Operator == resourcev1.DeviceTolerationOpExists {
			e.Tolerations[0].Operator, e.Tolerations[0].Value = resourcev1.DeviceTolerationOpExists, ""
		}
	}
	if w.rarely(5) {
		e.Capacity = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{"memory": resource.MustParse(w.one("1", "3", "4", "5"))}}
	}
	return e
}

func show(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
