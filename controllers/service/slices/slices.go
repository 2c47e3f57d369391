// Package slices packs endpoints into EndpointSlices: from the endpoints that are wanted and the slices that exist it
// makes the smallest set of creations, updates and deletions. It is pure. An endpoint stays in the slice where it is;
// new ones first fill slices that change anyway, then an unchanged slice that holds all of them, then new slices;
// slices that lost everything are reused before any is created.
package slices

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Max is the number of endpoints in one slice.
const Max = 100

// Group is what shares a slice: endpoints of one address family with the same ports.
type Group struct {
	Family    discoveryv1.AddressType
	Ports     []discoveryv1.EndpointPort
	Endpoints []discoveryv1.Endpoint
}

// Want is the wish for one Service.
type Want struct {
	Meta   metav1.ObjectMeta // namespace, labels, annotations and owner of every slice; GenerateName becomes the prefix of new names
	Groups []Group
	// Placeholders are families that have a slice even when there is no endpoint at all.
	Placeholders []discoveryv1.AddressType
	// ExactAnnotations makes the slices have the wanted annotations and no others. Otherwise only the trigger time
	// among them is ours.
	ExactAnnotations bool
	// Ours tells slices that may be kept; others that were passed in are deleted.
	Ours func(*discoveryv1.EndpointSlice) bool
}

// Diff is what has to be written. New slices have no name yet. Updates carry the resource version of the slice that
// they replace.
type Diff struct {
	Create, Update, Delete []*discoveryv1.EndpointSlice
}

// Empty reports whether nothing has to be written.
func (d Diff) Empty() bool { return len(d.Create)+len(d.Update)+len(d.Delete) == 0 }

// Plan compares the wish with the slices that exist.
func Plan(want Want, existing []*discoveryv1.EndpointSlice) Diff {
	var d Diff
	byGroup := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range slices.SortedFunc(slices.Values(existing), byName) {
		if want.Ours(s) {
			key := groupKey(s.AddressType, s.Ports)
			byGroup[key] = append(byGroup[key], s)
		} else {
			d.Delete = append(d.Delete, s)
		}
	}
	filled := map[discoveryv1.AddressType]bool{}
	for _, g := range merge(want.Groups) {
		key := groupKey(g.Family, g.Ports)
		filled[g.Family] = filled[g.Family] || len(g.Endpoints) > 0
		d.add(packGroup(want, g, byGroup[key]))
		delete(byGroup, key)
	}
	left := slices.SortedFunc(valuesOf(byGroup), byName)
	for _, family := range want.Placeholders {
		if !filled[family] {
			left = d.placeholder(want, family, left)
		}
	}
	d.Delete = append(d.Delete, left...)
	d.reuse(want)
	return d
}

func (d *Diff) add(o Diff) {
	d.Create = append(d.Create, o.Create...)
	d.Update = append(d.Update, o.Update...)
	d.Delete = append(d.Delete, o.Delete...)
}

// placeholder sees to it that the family has an empty slice, and returns the left-over slices without the one that
// serves.
func (d *Diff) placeholder(want Want, family discoveryv1.AddressType, left []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	for i, s := range left {
		if s.AddressType != family || len(s.Ports) > 0 {
			continue
		}
		if len(s.Endpoints) > 0 || !sameMeta(s, want) {
			d.Update = append(d.Update, replace(s, want, nil, []discoveryv1.Endpoint{}))
		}
		return append(left[:i:i], left[i+1:]...)
	}
	d.Create = append(d.Create, fresh(want, Group{Family: family, Ports: []discoveryv1.EndpointPort{}, Endpoints: []discoveryv1.Endpoint{}}))
	return left
}

// reuse turns pairs of a deletion and a creation of the same family into updates: an object written over is cheaper for
// everybody than one gone and one new.
func (d *Diff) reuse(want Want) {
	d.Delete = slices.DeleteFunc(d.Delete, func(old *discoveryv1.EndpointSlice) bool {
		at := slices.IndexFunc(d.Create, func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == old.AddressType })
		if at < 0 || !want.Ours(old) {
			return false
		}
		d.Update = append(d.Update, replace(old, want, d.Create[at].Ports, d.Create[at].Endpoints))
		d.Create = slices.Delete(d.Create, at, at+1)
		return true
	})
}

// packGroup plans one group.
func packGroup(want Want, g Group, existing []*discoveryv1.EndpointSlice) Diff {
	var d Diff
	missing := map[string]discoveryv1.Endpoint{}
	for _, e := range g.Endpoints {
		missing[endpointKey(e)] = e
	}
	var changed, same []*discoveryv1.EndpointSlice // changed: copies to update; same: as they are
	for _, s := range existing {
		kept, differs := keep(s, missing)
		switch {
		case len(kept) == 0:
			d.Delete = append(d.Delete, s)
		case differs || len(kept) != len(s.Endpoints) || !sameMeta(s, want):
			changed = append(changed, replace(s, want, s.Ports, kept))
		default:
			same = append(same, s)
		}
	}
	rest := slices.SortedFunc(maps.Values(missing), func(a, b discoveryv1.Endpoint) int { return cmp.Compare(endpointKey(a), endpointKey(b)) })
	slices.SortStableFunc(changed, func(a, b *discoveryv1.EndpointSlice) int { return len(b.Endpoints) - len(a.Endpoints) })
	for _, s := range changed {
		n := min(Max-len(s.Endpoints), len(rest))
		s.Endpoints = append(s.Endpoints, rest[:max(n, 0)]...)
		rest = rest[max(n, 0):]
	}
	if s := tightest(same, len(rest)); s != nil {
		changed = append(changed, replace(s, want, s.Ports, append(slices.Clone(s.Endpoints), rest...)))
		rest = nil
	}
	for chunk := range slices.Chunk(rest, Max) {
		d.Create = append(d.Create, fresh(want, Group{Family: g.Family, Ports: g.Ports, Endpoints: slices.Clone(chunk)}))
	}
	d.Update = changed
	return d
}

// keep returns the endpoints of a slice that are still wanted, in their wanted form, and takes them off missing.
// differs is true when a form changed.
func keep(s *discoveryv1.EndpointSlice, missing map[string]discoveryv1.Endpoint) (kept []discoveryv1.Endpoint, differs bool) {
	for _, e := range s.Endpoints {
		key := endpointKey(e)
		w, ok := missing[key]
		if !ok {
			continue
		}
		delete(missing, key)
		kept = append(kept, w)
		differs = differs || !equality.Semantic.DeepEqual(w, e)
	}
	return kept, differs
}

// tightest returns the fullest slice that takes n more endpoints, nil when n is 0 or none does.
func tightest(candidates []*discoveryv1.EndpointSlice, n int) *discoveryv1.EndpointSlice {
	var best *discoveryv1.EndpointSlice
	for _, s := range candidates {
		if n > 0 && len(s.Endpoints)+n <= Max && (best == nil || len(s.Endpoints) > len(best.Endpoints)) {
			best = s
		}
	}
	return best
}

// merge joins groups of the same family and ports, and puts them in a steady order.
func merge(groups []Group) []Group {
	byKey := map[string]*Group{}
	for _, g := range groups {
		key := groupKey(g.Family, g.Ports)
		if have := byKey[key]; have != nil {
			have.Endpoints = append(have.Endpoints, g.Endpoints...)
			continue
		}
		byKey[key] = &Group{Family: g.Family, Ports: g.Ports, Endpoints: slices.Clone(g.Endpoints)}
	}
	out := make([]Group, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, *byKey[key])
	}
	return out
}

// fresh makes a new slice.
func fresh(want Want, g Group) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: *want.Meta.DeepCopy(), AddressType: g.Family, Ports: g.Ports, Endpoints: g.Endpoints}
}

// replace makes the new form of an existing slice; what others added to its metadata besides labels stays.
func replace(
	old *discoveryv1.EndpointSlice, want Want, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint,
) *discoveryv1.EndpointSlice {
	s := *old
	s.ObjectMeta = *old.ObjectMeta.DeepCopy()
	s.Labels = maps.Clone(want.Meta.Labels)
	s.Annotations = annotations(old, want)
	s.OwnerReferences = slices.Clone(want.Meta.OwnerReferences)
	s.Ports, s.Endpoints = ports, endpoints
	if s.Ports == nil {
		s.Ports = []discoveryv1.EndpointPort{}
	}
	return &s
}

// annotations are those of the new form of a slice.
func annotations(old *discoveryv1.EndpointSlice, want Want) map[string]string {
	if want.ExactAnnotations {
		return maps.Clone(want.Meta.Annotations)
	}
	out := maps.Clone(old.Annotations)
	delete(out, corev1.EndpointsLastChangeTriggerTime)
	if len(want.Meta.Annotations) > 0 && out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, want.Meta.Annotations)
	return out
}

// sameMeta compares labels and, where they are ours alone, annotations. The trigger time changes only together with
// content.
func sameMeta(s *discoveryv1.EndpointSlice, want Want) bool {
	return maps.Equal(s.Labels, want.Meta.Labels) && (!want.ExactAnnotations || maps.Equal(s.Annotations, want.Meta.Annotations))
}

// endpointKey tells endpoints apart: by what they point to, not by their condition.
func endpointKey(e discoveryv1.Endpoint) string {
	var b strings.Builder
	for _, a := range slices.Sorted(slices.Values(e.Addresses)) {
		b.WriteString(a)
		b.WriteByte(',')
	}
	if e.Hostname != nil {
		b.WriteString(*e.Hostname)
	}
	if e.TargetRef != nil {
		fmt.Fprintf(&b, "|%s/%s", e.TargetRef.Namespace, e.TargetRef.Name)
	}
	return b.String()
}

// groupKey tells groups apart. The order of ports does not matter.
func groupKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	parts := make([]string, 0, len(ports))
	for _, p := range ports {
		parts = append(parts, fmt.Sprintf("%s/%s/%d/%s", deref(p.Name), deref(p.Protocol), deref(p.Port), deref(p.AppProtocol)))
	}
	slices.Sort(parts)
	return string(family) + " " + strings.Join(parts, " ")
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func byName(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }

func valuesOf(m map[string][]*discoveryv1.EndpointSlice) func(yield func(*discoveryv1.EndpointSlice) bool) {
	return func(yield func(*discoveryv1.EndpointSlice) bool) {
		for _, list := range m {
			for _, s := range list {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Prefix is what names of a Service's slices start with.
func Prefix(service string) string {
	if len(service)+1+5 > validation.DNS1123SubdomainMaxLength {
		return service[:validation.DNS1123SubdomainMaxLength-6] + "-"
	}
	return service + "-"
}
