package devices

import (
	"fmt"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
)

// constraint is about an attribute of all devices of some requests of a claim: it is the same for all, or another for each.
type constraint struct {
	requests  []string // request or request/subrequest; none: all
	attribute string
	distinct  bool
	values    []string // of the devices chosen so far, in order
}

func constraintsOf(c *resourcev1.ResourceClaim) (out []*constraint, err error) {
	for i := range c.Spec.Devices.Constraints {
		of := &c.Spec.Devices.Constraints[i]
		switch {
		case of.MatchAttribute != nil:
			out = append(out, &constraint{requests: of.Requests, attribute: string(*of.MatchAttribute)})
		case of.DistinctAttribute != nil:
			out = append(out, &constraint{requests: of.Requests, attribute: string(*of.DistinctAttribute), distinct: true})
		default:
			return nil, fmt.Errorf("claim %s/%s, constraint #%d: unknown constraint type", c.Namespace, c.Name, i)
		}
	}
	return out, nil
}

func (c *constraint) concerns(a *alternative) bool {
	request, _, _ := strings.Cut(a.name, "/")
	return len(c.requests) == 0 || slices.Contains(c.requests, request) || slices.Contains(c.requests, a.name)
}

// add says whether a device may join those chosen so far, and if so, takes it in.
func (c *constraint) add(a *alternative, d *device) bool {
	if !c.concerns(a) {
		return true
	}
	value, ok := valueOf(d, c.attribute)
	if !ok || len(c.values) > 0 && slices.Contains(c.values, value) == c.distinct {
		return false
	}
	c.values = append(c.values, value)
	return true
}

// drop takes the last device out again.
func (c *constraint) drop(a *alternative) {
	if c.concerns(a) {
		c.values = c.values[:len(c.values)-1]
	}
}

// valueOf writes an attribute so that values of different types differ. A name without a domain is the driver's.
func valueOf(d *device, name string) (string, bool) {
	a, ok := d.Attributes[resourcev1.QualifiedName(name)]
	if domain, id, _ := strings.Cut(name, "/"); !ok && domain == d.id.Driver {
		a, ok = d.Attributes[resourcev1.QualifiedName(id)]
	}
	switch {
	case !ok:
		return "", false
	case a.StringValue != nil:
		return "s" + *a.StringValue, true
	case a.IntValue != nil:
		return fmt.Sprint("i", *a.IntValue), true
	case a.BoolValue != nil:
		return fmt.Sprint("b", *a.BoolValue), true
	case a.VersionValue != nil:
		return "v" + *a.VersionValue, true
	}
	return "", false
}
