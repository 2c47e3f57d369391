package framework

// Code is the kind of a verdict.
type Code int

// The verdicts of PreEnqueue, PreFilter and Filter. A nil *Status is a yes.
const (
	Unschedulable Code = iota + 1 // no, but a change in the cluster may help
	Unresolvable                  // no, and removing other pods cannot help
	Failed                        // the question could not be answered
)

// Status is a no, with a reason that the user reads. Several reasons stand on lines of their own.
type Status struct {
	Code   Code
	Plugin string
	Reason string
}
