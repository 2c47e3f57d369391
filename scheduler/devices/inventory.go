// Package devices finds devices for claims (KEP-4381): a pure search over what the drivers of a cluster offer in
// ResourceSlices, less what ResourceClaims have been given already.
//
// Inventory is the state, kept up to date object by object: slices in pools, with what can be worked out about them once
// (which nodes reach them, which expressions are true of them), and who holds what. Allocate searches it for a node and a
// list of claims. A claim that has been decided about but whose allocation the API has not confirmed is pending: its devices
// are taken from the moment of the decision, so that no device is given twice.
//
// Allocation is all or nothing for the claims of a pod, and takes the first combination that does, in the order in which
// the claims ask and pools, slices and devices are named. The search gives up after a number of steps; see Budget.
package devices

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"hardway/scheduler/devices/selector"
)

// ID names a device.
type ID struct{ Driver, Pool, Name string }

// Inventory is the devices of a cluster. Make it with New. It has one user at a time.
type Inventory struct {
	Classes map[string]*resourcev1.DeviceClass // by name; written by the owner

	claims  map[string]*resourcev1.ResourceClaim // by namespace/name
	pending map[types.UID]*resourcev1.AllocationResult
	doubted map[types.UID]bool
	slices  map[string]*slice // by name
	pools   map[poolID]*pool
	local   map[string]map[poolID]*pool // pools with slices of one node, by its name
	wide    map[poolID]*pool            // pools with slices for more than one node

	taken     map[ID]int    // by how many claims alone; more than one only when somebody else wrote so
	shared    map[ID]*share // of devices for several claims
	moves     uint64        // changes with taken and shared
	selectors *selector.Cache
}

// share is what claims use of a device together.
type share struct {
	claims int
	used   capacity
}

type capacity map[resourcev1.QualifiedName]resource.Quantity

// New is an empty inventory.
func New() *Inventory {
	return &Inventory{
		Classes: map[string]*resourcev1.DeviceClass{}, claims: map[string]*resourcev1.ResourceClaim{}, pending: map[types.UID]*resourcev1.AllocationResult{}, doubted: map[types.UID]bool{},
		slices: map[string]*slice{}, pools: map[poolID]*pool{}, local: map[string]map[poolID]*pool{}, wide: map[poolID]*pool{},
		taken: map[ID]int{}, shared: map[ID]*share{}, selectors: selector.NewCache(),
	}
}

// Claim is a claim as the API has it; nil: there is none.
func (v *Inventory) Claim(namespace, name string) *resourcev1.ResourceClaim {
	return v.claims[namespace+"/"+name]
}

// SetClaim records a claim.
func (v *Inventory) SetClaim(c *resourcev1.ResourceClaim) {
	key := c.Namespace + "/" + c.Name
	if old := v.claims[key]; old != nil {
		if old.UID != c.UID {
			v.Forget(old.UID)
		}
		v.count(old.Status.Allocation, -1)
	}
	v.claims[key] = c
	v.count(c.Status.Allocation, 1)
	if c.Status.Allocation != nil {
		v.Forget(c.UID) // the API knows more now than what was decided
	}
}

// RemoveClaim forgets a claim.
func (v *Inventory) RemoveClaim(namespace, name string) {
	key := namespace + "/" + name
	if old := v.claims[key]; old != nil {
		v.count(old.Status.Allocation, -1)
		v.Forget(old.UID)
		delete(v.claims, key)
	}
}

// Assume records what a claim will be given, before the API knows; Forget takes it back.
func (v *Inventory) Assume(uid types.UID, a *resourcev1.AllocationResult) {
	v.Forget(uid)
	v.pending[uid] = a
	v.count(a, 1)
}

// Forget ends an assumption.
func (v *Inventory) Forget(uid types.UID) {
	if a := v.pending[uid]; a != nil {
		v.count(a, -1)
		delete(v.pending, uid)
		delete(v.doubted, uid)
	}
}

// Doubt says that it is not known whether the API took an assumption: its devices stay taken until the claim is seen
// with an allocation, or another decision about it is taken.
func (v *Inventory) Doubt(uid types.UID) {
	if v.pending[uid] != nil {
		v.doubted[uid] = true
	}
}

// Pending says whether a claim has been decided about and the API does not know yet.
func (v *Inventory) Pending(uid types.UID) bool { return v.pending[uid] != nil && !v.doubted[uid] }

// count takes note of the devices of an allocation. Those for administration take nothing.
func (v *Inventory) count(a *resourcev1.AllocationResult, sign int) {
	if a == nil {
		return
	}
	v.moves++
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		id := ID{r.Driver, r.Pool, r.Device}
		switch {
		case r.AdminAccess != nil && *r.AdminAccess:
		case r.ShareID != nil:
			v.use(id, r.ConsumedCapacity, sign)
		default:
			if v.taken[id] += sign; v.taken[id] == 0 {
				delete(v.taken, id)
			}
		}
	}
}

func (v *Inventory) use(id ID, of capacity, sign int) {
	s := v.shared[id]
	if s == nil {
		s = &share{used: capacity{}}
		v.shared[id] = s
	}
	s.claims += sign
	s.used.add(of, sign)
	if s.claims == 0 {
		delete(v.shared, id)
	}
}

func (c capacity) add(other capacity, sign int) {
	for name, q := range other {
		sum := c[name].DeepCopy()
		if sign < 0 {
			sum.Sub(q)
		} else {
			sum.Add(q)
		}
		c[name] = sum
	}
}

// held says whether any claim has the device or a part of it.
func (v *Inventory) held(id ID) bool { return v.taken[id] > 0 || v.shared[id] != nil }

// SetSlice records what a driver offers.
func (v *Inventory) SetSlice(s *resourcev1.ResourceSlice) {
	v.RemoveSlice(s.Name)
	of := newSlice(s)
	v.slices[s.Name] = of
	id := poolID{s.Spec.Driver, s.Spec.Pool.Name}
	p := v.pools[id]
	if p == nil {
		p = &pool{id: id}
		v.pools[id] = p
	}
	p.slices = append(p.slices, of)
	v.pack(p)
}

// RemoveSlice forgets a slice.
func (v *Inventory) RemoveSlice(name string) {
	s := v.slices[name]
	if s == nil {
		return
	}
	delete(v.slices, name)
	p := v.pools[poolID{s.Spec.Driver, s.Spec.Pool.Name}]
	p.slices = slices.DeleteFunc(p.slices, func(other *slice) bool { return other == s })
	v.pack(p)
}

// pack puts a pool in order, and where nodes find it.
func (v *Inventory) pack(p *pool) {
	for _, node := range p.at {
		if delete(v.local[node], p.id); len(v.local[node]) == 0 {
			delete(v.local, node)
		}
	}
	delete(v.wide, p.id)
	p.settle()
	if len(p.slices) == 0 {
		delete(v.pools, p.id)
		return
	}
	for _, node := range p.at {
		if v.local[node] == nil {
			v.local[node] = map[poolID]*pool{}
		}
		v.local[node][p.id] = p
	}
	if p.wide {
		v.wide[p.id] = p
	}
}

// reachable are the pools that may have devices for a node, in order: those whose devices are ready at once come first.
func (v *Inventory) reachable(node *corev1.Node) (out []*pool) {
	out = slices.AppendSeq(out, maps.Values(v.local[node.Name]))
	for id, p := range v.wide {
		if v.local[node.Name][id] == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePools)
	return out
}
