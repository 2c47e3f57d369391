// Package defaultpreemption looks, for a pod that fits nowhere, for the node where the fewest and least important pods of
// lower priority would have to go.
package defaultpreemption

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
)

const name = "DefaultPreemption"

// Plugin is DefaultPreemption.
type Plugin struct {
	// Of the nodes where it may help, so many are tried: a percentage, but at least a number. Defaults 10 and 100.
	Percentage, AtLeast int
	// Budgets are the disruption budgets of a namespace; nil: there are none.
	Budgets func(namespace string) []*policyv1.PodDisruptionBudget
	// From chooses where of n candidates the search begins; nil means at random.
	From func(n int) int
	// Consult lets others drop ways of making room for a pod, or choose other victims; nil: nobody is asked.
	Consult func(p *framework.Pod, ways []*framework.Eviction) ([]*framework.Eviction, error)
}

// Name implements framework.Plugin.
func (*Plugin) Name() string { return name }

// PostFilter implements framework.PostFilter.
func (pl *Plugin) PostFilter(s framework.Situation, _ any, p *framework.Pod) (*framework.Eviction, *framework.Status) {
	if why := mayNot(s, p); why != "" {
		return nil, no(why)
	}
	view := s.View()
	var rows []int
	verdicts := map[string]int{}
	for _, n := range view.Nodes {
		if n.Node == nil {
			continue
		}
		if v := s.Verdict(n.Row); v == nil || v.Code == framework.Unschedulable {
			rows = append(rows, n.Row)
		} else {
			verdicts[unhelpful]++
		}
	}
	if len(rows) > 0 && !view.Outranks(p.Priority) {
		verdicts[nobody] += len(rows)
		rows = nil
	}
	found := pl.search(s, p, rows, verdicts)
	if pl.Consult != nil && len(found) > 0 {
		agreed, err := pl.Consult(p, found)
		if err != nil {
			return nil, no(err.Error())
		}
		verdicts[dropped] += len(found) - len(agreed)
		found = agreed
		for _, way := range found {
			slices.SortStableFunc(way.Victims, important)
		}
	}
	if len(found) == 0 {
		return nil, no(framework.Count(view.Known, verdicts, ""))
	}
	return slices.MinFunc(found, better), nil
}

const (
	unhelpful = "Preemption is not helpful for scheduling"
	nobody    = "No preemption victims found for incoming pod"
	dropped   = "an extender is against evicting pods"
)

func no(why string) *framework.Status { return framework.No(framework.Unschedulable, name, why) }

// mayNot says why a pod may not evict others; "" when it may.
func mayNot(s framework.Situation, p *framework.Pod) string {
	if p.Spec.PreemptionPolicy != nil && *p.Spec.PreemptionPolicy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	nominated := p.Status.NominatedNodeName
	if nominated == "" {
		return ""
	}
	for _, n := range s.View().Nodes {
		if n.Name != nominated || n.Node == nil {
			continue
		}
		if v := s.Verdict(n.Row); v != nil && v.Code == framework.Unresolvable {
			return ""
		}
		if slices.ContainsFunc(n.Pods, func(o *framework.Pod) bool { return o.Priority < p.Priority && evicted(o) }) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

// evicted says whether a pod is going because it was evicted for another.
func evicted(p *framework.Pod) bool {
	if !p.Leaving {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			return c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
		}
	}
	return false
}

func outranked(v *framework.View, row int, p *framework.Pod) (out []*framework.Pod) {
	for _, o := range v.Nominated[row] {
		if o.Priority < p.Priority {
			out = append(out, o)
		}
	}
	return out
}

// search tries rows until there are enough ways. Why a row is none is counted.
func (pl *Plugin) search(s framework.Situation, p *framework.Pod, rows []int, verdicts map[string]int) (found []*framework.Eviction) {
	if len(rows) == 0 {
		return nil
	}
	enough := min(len(rows), max(len(rows)*pl.Percentage/100, pl.AtLeast))
	from := pl.From
	if from == nil {
		from = rand.IntN
	}
	start := from(len(rows))
	clean := 0
	for i := range rows {
		row := rows[(start+i)%len(rows)]
		way, why := pl.victims(s, p, row)
		if way == nil {
			verdicts[why.Reason]++
			continue
		}
		way.Outranked = outranked(s.View(), row, p)
		found = append(found, way)
		if way.Violations == 0 {
			clean++
		}
		if clean > 0 && len(found) >= enough {
			break
		}
	}
	return found
}

// better orders ways: fewer budgets violated, then the most important victim less important, a smaller sum of
// priorities, fewer victims, and the most important ones started later.
func better(a, b *framework.Eviction) int {
	return cmp.Or(
		cmp.Compare(a.Violations, b.Violations),
		cmp.Compare(a.Victims[0].Priority, b.Victims[0].Priority),
		cmp.Compare(priorities(a.Victims), priorities(b.Victims)),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		earliest(b.Victims).Compare(earliest(a.Victims)),
	)
}

// priorities is their sum, shifted so that each victim counts.
func priorities(victims []*framework.Pod) (sum int64) {
	for _, v := range victims {
		sum += int64(v.Priority) + math.MaxInt32 + 1
	}
	return sum
}

// earliest is when the first of the most important victims started.
func earliest(victims []*framework.Pod) time.Time {
	first := started(victims[0])
	for _, v := range victims {
		if t := started(v); v.Priority == victims[0].Priority && t.Before(first) {
			first = t
		}
	}
	return first
}

// started is when a pod started; one that has not yet counts as of now at the latest.
func started(p *framework.Pod) time.Time {
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return time.Unix(1<<40, 0)
}

// victims finds out which pods would have to leave a row: all of lower priority are taken off, and as many as fit are put
// back, those whose budget would be violated first, and the more important ones before others.
func (pl *Plugin) victims(s framework.Situation, p *framework.Pod, row int) (found *framework.Eviction, why *framework.Status) {
	s.Try(row, func(t framework.Trial) {
		var lower []*framework.Pod
		for _, other := range t.Node().Pods {
			if other.Priority < p.Priority {
				lower = append(lower, other)
			}
		}
		if len(lower) == 0 {
			why = no(nobody)
			return
		}
		for _, other := range lower {
			t.Remove(other)
		}
		if why = t.Fits(); why != nil {
			return
		}
		slices.SortStableFunc(lower, important)
		violating, others := pl.split(lower)
		way := &framework.Eviction{Node: t.Node().Name}
		spare := func(other *framework.Pod) bool {
			t.Add(other)
			if t.Fits() == nil {
				return true
			}
			t.Remove(other)
			way.Victims = append(way.Victims, other)
			return false
		}
		for _, other := range violating {
			if !spare(other) {
				way.Violations++
			}
		}
		for _, other := range others {
			spare(other)
		}
		slices.SortStableFunc(way.Victims, important)
		if len(way.Victims) == 0 { // it fits as it is; the next try will see that
			why = no(unhelpful)
			return
		}
		found = way
	})
	return found, why
}

// important orders pods: higher priority first, then who started earlier.
func important(a, b *framework.Pod) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), started(a).Compare(started(b)))
}

// split tells those apart whose eviction would violate a disruption budget, counting what each budget allows.
func (pl *Plugin) split(pods []*framework.Pod) (violating, others []*framework.Pod) {
	allowed := map[*policyv1.PodDisruptionBudget]int32{}
	for _, p := range pods {
		violates := false
		for _, b := range pl.budgetsOf(p) {
			left, known := allowed[b]
			if !known {
				left = b.Status.DisruptionsAllowed
			}
			allowed[b] = left - 1
			violates = violates || left <= 0
		}
		if violates {
			violating = append(violating, p)
		} else {
			others = append(others, p)
		}
	}
	return violating, others
}

// budgetsOf are the budgets that an eviction of a pod would use up. One that it is already on its way out of is not.
func (pl *Plugin) budgetsOf(p *framework.Pod) (out []*policyv1.PodDisruptionBudget) {
	if pl.Budgets == nil || len(p.Labels) == 0 {
		return nil
	}
	for _, b := range pl.Budgets(p.Namespace) {
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || s.Empty() || !s.Matches(labels.Set(p.Labels)) {
			continue
		}
		if _, going := b.Status.DisruptedPods[p.Name]; !going {
			out = append(out, b)
		}
	}
	return out
}
