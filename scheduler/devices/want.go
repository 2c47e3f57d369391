package devices

import (
	"fmt"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
)

// want is a request of a claim: one of its alternatives, the first that can be had.
type want struct {
	alternatives []*alternative
	chosen       int
}

// alternative is an exact request, or one of those that a request would take, the best first.
type alternative struct {
	name      string // request, or request/subrequest
	class     *resourcev1.DeviceClass
	selectors []resourcev1.DeviceSelector // the request's
	mode      resourcev1.DeviceAllocationMode
	count     int
	admin     bool
	tolerates []resourcev1.DeviceToleration
	needs     *resourcev1.CapacityRequirements

	all []*device // in mode All: these, and no others
}

// wants reads the requests of a claim.
func (v *Inventory) wants(c *resourcev1.ResourceClaim) (out []*want, err error) {
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		w := &want{}
		if e := r.Exactly; e != nil {
			a := &alternative{name: r.Name, selectors: e.Selectors, mode: e.AllocationMode, count: int(e.Count),
				admin: e.AdminAccess != nil && *e.AdminAccess, tolerates: e.Tolerations, needs: e.Capacity}
			if a.class, err = v.class(c, r.Name, e.DeviceClassName); err != nil {
				return nil, err
			}
			w.alternatives = append(w.alternatives, a)
		}
		for k := range r.FirstAvailable {
			s := &r.FirstAvailable[k]
			a := &alternative{name: r.Name + "/" + s.Name, selectors: s.Selectors, mode: s.AllocationMode, count: int(s.Count), tolerates: s.Tolerations, needs: s.Capacity}
			if a.class, err = v.class(c, a.name, s.DeviceClassName); err != nil {
				return nil, err
			}
			w.alternatives = append(w.alternatives, a)
		}
		if len(w.alternatives) == 0 {
			return nil, fmt.Errorf("claim %s/%s, request %s: unknown request type", c.Namespace, c.Name, r.Name)
		}
		out = append(out, w)
	}
	return out, nil
}

func (v *Inventory) class(c *resourcev1.ResourceClaim, request, name string) (*resourcev1.DeviceClass, error) {
	if class := v.Classes[name]; class != nil {
		return class, nil
	}
	return nil, fmt.Errorf("claim %s/%s, request %s: device class %s does not exist", c.Namespace, c.Name, request, name)
}

// selects says whether the class and the request select a device.
func (a *alternative) selects(v *Inventory, d *device) (bool, error) {
	for _, list := range [][]resourcev1.DeviceSelector{a.class.Spec.Selectors, a.selectors} {
		for i := range list {
			if list[i].CEL == nil {
				return false, fmt.Errorf("request %s, selector #%d: only CEL expressions are known", a.name, i)
			}
			is, err := d.matches(list[i].CEL.Expression, v.selectors)
			if err != nil {
				return false, fmt.Errorf("request %s or its class %s: selector #%d: %w", a.name, a.class.Name, i, err)
			}
			if !is {
				return false, nil
			}
		}
	}
	return true, nil
}

// tolerated says whether no taint of the device keeps the request away.
func (a *alternative) tolerated(d *device) bool {
	for i := range d.Taints {
		t := &d.Taints[i]
		if t.Effect != resourcev1.DeviceTaintEffectNoSchedule && t.Effect != resourcev1.DeviceTaintEffectNoExecute {
			continue
		}
		if !slices.ContainsFunc(a.tolerates, func(o resourcev1.DeviceToleration) bool { return tolerates(&o, t) }) {
			return false
		}
	}
	return true
}

func tolerates(o *resourcev1.DeviceToleration, t *resourcev1.DeviceTaint) bool {
	if o.Effect != "" && o.Effect != t.Effect || o.Key != "" && o.Key != t.Key {
		return false
	}
	switch o.Operator {
	case "", resourcev1.DeviceTolerationOpEqual:
		return o.Value == t.Value
	case resourcev1.DeviceTolerationOpExists:
		return true
	}
	return false
}

// draws is how much of each capacity of a device the request takes; false when the device has not what is asked for.
// A device that is not shared gives all, but what is asked for must be there.
func (a *alternative) draws(d *device) (capacity, bool) {
	out := capacity{}
	if a.needs != nil {
		for name := range a.needs.Requests {
			if _, ok := d.Capacity[name]; !ok {
				return nil, false
			}
		}
	}
	for name, has := range d.Capacity {
		q, ok := drawn(a.needs, name, has)
		if !ok {
			return nil, false
		}
		out[name] = q
	}
	return out, true
}
