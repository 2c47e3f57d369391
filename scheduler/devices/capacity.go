package devices

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// drawn is how much of one capacity is taken: what is asked for, rounded up as the device's policy says, or its default, or
// all. False when the policy forbids it.
func drawn(needs *resourcev1.CapacityRequirements, name resourcev1.QualifiedName, has resourcev1.DeviceCapacity) (resource.Quantity, bool) {
	policy := has.RequestPolicy
	var asked *resource.Quantity
	if needs != nil {
		if q, ok := needs.Requests[name]; ok {
			asked = &q
		}
	}
	switch {
	case asked == nil && policy != nil && policy.Default != nil:
		return *policy.Default, true
	case asked == nil:
		return has.Value, policy == nil || allowed(has.Value, policy)
	case policy == nil:
		return *asked, true
	}
	q := rounded(*asked, policy)
	return q, policy.Default != nil && q.Cmp(*policy.Default) == 0 || allowed(q, policy)
}

// rounded is the least amount of a policy that is enough, or the amount as it is when there is none.
func rounded(q resource.Quantity, policy *resourcev1.CapacityRequestPolicy) resource.Quantity {
	switch r := policy.ValidRange; {
	case r != nil && r.Min != nil && q.Cmp(*r.Min) < 0:
		return *r.Min
	case r != nil && r.Min != nil && r.Step != nil && r.Step.Value() > 0:
		least, step := r.Min.Value(), r.Step.Value()
		steps := (q.Value() - least + step - 1) / step
		return *resource.NewQuantity(least+steps*step, resource.BinarySI)
	case r == nil:
		for _, valid := range policy.ValidValues { // in ascending order
			if q.Cmp(valid) <= 0 {
				return valid
			}
		}
	}
	return q
}

func allowed(q resource.Quantity, policy *resourcev1.CapacityRequestPolicy) bool {
	if r := policy.ValidRange; r != nil {
		if r.Max != nil && q.Cmp(*r.Max) > 0 {
			return false
		}
		return r.Step == nil || r.Min == nil || r.Step.Value() <= 0 || (q.Value()-r.Min.Value())%r.Step.Value() == 0
	}
	return len(policy.ValidValues) == 0 || slices.ContainsFunc(policy.ValidValues, func(v resource.Quantity) bool { return v.Cmp(q) == 0 })
}
