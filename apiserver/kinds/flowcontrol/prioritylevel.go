package flowcontrol

import (
	"fmt"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/fill"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// The bounds of queues.
const (
	maxQueues   = 10_000_000
	maxHandBits = 60
)

// PriorityLevelConfiguration says how much of the server a level of requests gets and how long they may wait for it.
var PriorityLevelConfiguration = resource.Define(scheme.Types, resource.Spec[flowcontrolv1.PriorityLevelConfiguration]{
	Names:     resource.Names{Group: group, Version: version, Kind: "PriorityLevelConfiguration", Plural: "prioritylevelconfigurations"},
	Scope:     resource.Cluster,
	Default:   defaultLevel,
	SetStatus: func(dst, src *flowcontrolv1.PriorityLevelConfiguration) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(l, old *flowcontrolv1.PriorityLevelConfiguration) bool {
		return !equality.Semantic.DeepEqual(l.Spec, old.Spec)
	},
	Validate: validateLevel,
	ValidateStatusUpdate: func(l, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
		var types []string
		for _, c := range l.Status.Conditions {
			types = append(types, string(c.Type))
		}
		return validateConditionTypes(types)
	},
	AllowUnconditionalUpdate: true,
	Columns:                  levelColumns(),
})

func defaultLevel(l *flowcontrolv1.PriorityLevelConfiguration) {
	if e := l.Spec.Exempt; e != nil {
		fill.Ptr(&e.NominalConcurrencyShares, 0)
		fill.Ptr(&e.LendablePercent, 0)
	}
	if s := l.Spec.Limited; s != nil {
		fill.Ptr(&s.NominalConcurrencyShares, 30)
		fill.Ptr(&s.LendablePercent, 0)
		if q := s.LimitResponse.Queuing; q != nil {
			fill.Zero(&q.HandSize, 8)
			fill.Zero(&q.Queues, 64)
			fill.Zero(&q.QueueLengthLimit, 50)
		}
	}
}

func validateLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	path, s := field.NewPath("spec"), &l.Spec
	var errs field.ErrorList
	if (l.Name == exempt) != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(path.Child("type"), s.Type, "must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(path.Child("limited"), "must be nil if the type is not Limited"))
		}
		if e := s.Exempt; e != nil {
			errs = append(errs, shares(e.NominalConcurrencyShares, e.LendablePercent, path.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(path.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited == nil {
			errs = append(errs, field.Required(path.Child("limited"), "must not be empty when type is Limited"))
		} else {
			errs = append(errs, validateLimited(s.Limited, path.Child("limited"))...)
		}
	default:
		errs = append(errs, check.Among(s.Type, path.Child("type"), flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)...)
	}
	for _, fixed := range mandatoryLevels() {
		if fixed.Name != l.Name {
			continue
		}
		have, text := s.DeepCopy(), "spec of '%s' must equal the fixed value"
		if l.Name == exempt { // its shares may be chosen
			have.Exempt, text = fixed.Spec.Exempt, "spec of '%s' except the 'spec.exempt' field must equal the fixed value"
		}
		if !equality.Semantic.DeepEqual(*have, fixed.Spec) {
			errs = append(errs, field.Invalid(path, l.Spec, fmt.Sprintf(text, l.Name)))
		}
	}
	return errs
}

func shares(nominal, lendable *int32, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if nominal != nil && *nominal < 0 {
		errs = append(errs, field.Invalid(at.Child("nominalConcurrencyShares"), *nominal, "must be a non-negative integer"))
	}
	if lendable != nil && (*lendable < 0 || *lendable > 100) {
		errs = append(errs, field.Invalid(at.Child("lendablePercent"), *lendable, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) field.ErrorList {
	errs := shares(l.NominalConcurrencyShares, l.LendablePercent, at)
	if p := l.BorrowingLimitPercent; p != nil && *p < 0 {
		errs = append(errs, field.Invalid(at.Child("borrowingLimitPercent"), *p, "if specified, must be a non-negative integer"))
	}
	response, q := at.Child("limitResponse"), l.LimitResponse.Queuing
	switch l.LimitResponse.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if q != nil {
			errs = append(errs, field.Forbidden(response.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if q == nil {
			errs = append(errs, field.Required(response.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		} else {
			errs = append(errs, validateQueuing(q, response.Child("queuing"))...)
		}
	default:
		errs = append(errs, check.Among(l.LimitResponse.Type, response.Child("type"), flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)...)
	}
	return errs
}

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	if q.Queues <= 0 {
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, "must be positive"))
	} else if q.Queues > maxQueues {
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	switch hand := at.Child("handSize"); {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(hand, q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	default:
		// Dealing a hand uses up bits of a hash.
		bits := 0
		for i := range q.HandSize {
			for n := q.Queues - i - 1; n > 0; n >>= 1 {
				bits++
			}
		}
		if bits > maxHandBits {
			errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, maxHandBits)))
		}
	}
	return errs
}

func levelColumns() []resource.Column[flowcontrolv1.PriorityLevelConfiguration] {
	type level = flowcontrolv1.PriorityLevelConfiguration
	queue := flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()
	queuing := func(f func(*flowcontrolv1.QueuingConfiguration) int32) func(*level) any {
		return func(l *level) any {
			if l.Spec.Limited == nil || l.Spec.Limited.LimitResponse.Queuing == nil {
				return show.None
			}
			return fmt.Sprint(f(l.Spec.Limited.LimitResponse.Queuing))
		}
	}
	return []resource.Column[level]{
		{Name: "Type", Describe: flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], Value: func(l *level) any { return string(l.Spec.Type) }},
		{Name: "NominalConcurrencyShares", Describe: flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"], Value: func(l *level) any {
			if l.Spec.Limited == nil || l.Spec.Limited.NominalConcurrencyShares == nil {
				return show.None
			}
			return fmt.Sprint(*l.Spec.Limited.NominalConcurrencyShares)
		}},
		{Name: "Queues", Describe: queue["queues"], Value: queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues })},
		{Name: "HandSize", Describe: queue["handSize"], Value: queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize })},
		{Name: "QueueLengthLimit", Describe: queue["queueLengthLimit"], Value: queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit })},
		show.Age[level](),
	}
}
