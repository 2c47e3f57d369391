package fairness

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"hardway/apiserver/request"
)

// Plan is what the configuration objects say. It never changes.
type Plan struct {
	rules  []rule // in the order in which they are asked
	levels map[string]*level
}

type rule struct {
	schema *flowcontrolv1.FlowSchema
	level  *level
}

// level is one priority level with its figures.
type level struct {
	name, uid string
	exempt    bool
	seats     int // its own
	lends     int // of them
	borrows   int // at most, of others; negative: as many as there are
	queues    int // 0: nothing waits
	hand      int
	length    int // of a queue, at most
}

// NewPlan shares out a number of seats. Schemas whose level is missing are left out: their requests fall to the next one.
// mandatory stand in for those of their names that are not there.
func NewPlan(seats int, levels, mandatoryLevels []*flowcontrolv1.PriorityLevelConfiguration, schemas, mandatorySchemas []*flowcontrolv1.FlowSchema) *Plan {
	levels = completed(levels, mandatoryLevels)
	schemas = completed(schemas, mandatorySchemas)
	var shares float64
	for _, l := range levels {
		shares += float64(share(l))
	}
	p := &Plan{levels: map[string]*level{}}
	for _, l := range levels {
		p.levels[l.Name] = newLevel(l, seats, shares)
	}
	for _, s := range schemas {
		if l := p.levels[s.Spec.PriorityLevelConfiguration.Name]; l != nil {
			p.rules = append(p.rules, rule{s, l})
		}
	}
	slices.SortStableFunc(p.rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.schema.Spec.MatchingPrecedence, b.schema.Spec.MatchingPrecedence), strings.Compare(a.schema.Name, b.schema.Name))
	})
	return p
}

func completed[T interface{ GetName() string }](have, mandatory []T) []T {
	out := slices.Clone(have)
	for _, m := range mandatory {
		if !slices.ContainsFunc(have, func(o T) bool { return o.GetName() == m.GetName() }) {
			out = append(out, m)
		}
	}
	return out
}

// share is a level's part of the seats; exempt levels have one too, which others may use.
func share(l *flowcontrolv1.PriorityLevelConfiguration) int32 {
	switch {
	case l.Spec.Limited != nil:
		return or(l.Spec.Limited.NominalConcurrencyShares, 30)
	case l.Spec.Exempt != nil:
		return or(l.Spec.Exempt.NominalConcurrencyShares, 0)
	}
	return 0
}

func or(p *int32, otherwise int32) int32 {
	if p == nil {
		return otherwise
	}
	return *p
}

func newLevel(l *flowcontrolv1.PriorityLevelConfiguration, seats int, shares float64) *level {
	out := &level{name: l.Name, uid: string(l.UID), exempt: l.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt}
	if shares > 0 {
		out.seats = int(math.Ceil(float64(seats) * float64(share(l)) / shares))
	}
	s := l.Spec.Limited
	if s == nil {
		if l.Spec.Exempt != nil {
			out.lends = out.seats * int(or(l.Spec.Exempt.LendablePercent, 0)) / 100
		}
		return out
	}
	out.lends = out.seats * int(or(s.LendablePercent, 0)) / 100
	out.borrows = -1
	if s.BorrowingLimitPercent != nil {
		out.borrows = out.seats * int(*s.BorrowingLimitPercent) / 100
	}
	if q := s.LimitResponse.Queuing; q != nil && s.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue {
		out.queues, out.hand, out.length = int(q.Queues), int(q.HandSize), int(q.QueueLengthLimit)
	}
	return out
}

// Place is where a request belongs.
type Place struct {
	SchemaUID, LevelUID string
	Schema, Level       string
	Exempt              bool
	flow                uint64
}

// Find follows a request to its place. The last of the mandatory schemas matches everybody.
func (p *Plan) Find(user *request.UserInfo, info *request.Info) Place {
	for i := range p.rules {
		r := &p.rules[i]
		if !slices.ContainsFunc(r.schema.Spec.Rules, func(x flowcontrolv1.PolicyRulesWithSubjects) bool { return matches(&x, user, info) }) {
			continue
		}
		return Place{
			SchemaUID: string(r.schema.UID), Schema: r.schema.Name, LevelUID: r.level.uid, Level: r.level.name, Exempt: r.level.exempt,
			flow: flow(r.schema, user, info),
		}
	}
	return Place{Level: "catch-all", Schema: "catch-all"}
}

// flow tells the flows of a schema apart.
func flow(s *flowcontrolv1.FlowSchema, user *request.UserInfo, info *request.Info) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.Name + "\x00")) // never fails
	if m := s.Spec.DistinguisherMethod; m != nil {
		switch m.Type {
		case flowcontrolv1.FlowDistinguisherMethodByUserType:
			_, _ = h.Write([]byte(user.Name))
		case flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
			_, _ = h.Write([]byte(info.Namespace))
		}
	}
	return mix(h.Sum64())
}

// mix spreads a hash over all its bits, since hands are dealt from the remainder of divisions.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func matches(r *flowcontrolv1.PolicyRulesWithSubjects, user *request.UserInfo, info *request.Info) bool {
	if !slices.ContainsFunc(r.Subjects, func(s flowcontrolv1.Subject) bool { return isSubject(&s, user) }) {
		return false
	}
	if info.IsResource {
		return slices.ContainsFunc(r.ResourceRules, func(x flowcontrolv1.ResourcePolicyRule) bool { return matchesResource(&x, info) })
	}
	return slices.ContainsFunc(r.NonResourceRules, func(x flowcontrolv1.NonResourcePolicyRule) bool {
		return has(x.Verbs, info.Verb) && slices.ContainsFunc(x.NonResourceURLs, func(u string) bool {
			prefix, open := strings.CutSuffix(u, "*")
			return u == info.Path || open && strings.HasPrefix(info.Path, prefix)
		})
	})
}

func isSubject(s *flowcontrolv1.Subject, user *request.UserInfo) bool {
	switch {
	case s.User != nil:
		return s.User.Name == "*" || s.User.Name == user.Name
	case s.Group != nil:
		return s.Group.Name == "*" || user.In(s.Group.Name)
	case s.ServiceAccount != nil:
		rest, ok := strings.CutPrefix(user.Name, "system:serviceaccount:"+s.ServiceAccount.Namespace+":")
		return ok && (s.ServiceAccount.Name == "*" || s.ServiceAccount.Name == rest)
	}
	return false
}

func matchesResource(r *flowcontrolv1.ResourcePolicyRule, info *request.Info) bool {
	what := info.Resource
	if info.Subresource != "" {
		what += "/" + info.Subresource
	}
	if !has(r.Verbs, info.Verb) || !has(r.APIGroups, info.Group) || !has(r.Resources, what) {
		return false
	}
	if info.Namespace == "" {
		return r.ClusterScope
	}
	return has(r.Namespaces, info.Namespace)
}

func has(list []string, value string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}
