package framework

import (
	"fmt"
	"slices"
	"strings"
)

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

// No makes a Status. Plugins make theirs once, so that equal verdicts of thousands of nodes are one value.
func No(code Code, plugin, reason string) *Status {
	return &Status{Code: code, Plugin: plugin, Reason: reason}
}

// Count puts reasons against nodes into a sentence, with how many nodes each is of, or the one reason against all.
func Count(nodes int, reasons map[string]int, all string) string {
	head := fmt.Sprintf("0/%d nodes are available", nodes)
	if all != "" {
		return fmt.Sprintf("%s: %s.", head, all)
	}
	if len(reasons) == 0 {
		return head + "."
	}
	parts := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		for line := range strings.SplitSeq(reason, "\n") {
			parts = append(parts, fmt.Sprintf("%d %s", n, line))
		}
	}
	slices.Sort(parts)
	return fmt.Sprintf("%s: %s.", head, strings.Join(parts, ", "))
}
