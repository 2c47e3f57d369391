package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// spec is one test, as ginkgo reports it.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeText            string
	LeafNodeType            string
	State                   string
	IsSerial                bool
	RunTime                 time.Duration
	Failure                 struct{ Message string }
}

func (s spec) name() string {
	return strings.Join(append(append([]string{}, s.ContainerHierarchyTexts...), s.LeafNodeText), " ")
}

// specs reads the tests and the set-up steps of a report that a run selected. Those that it did not select, thousands, are "skipped" without a reason.
func specs(path string) ([]spec, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var reports []struct{ SpecReports []spec }
	if err := json.Unmarshal(text, &reports); err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	var out []spec
	for _, r := range reports {
		for _, s := range r.SpecReports {
			if s.State != "skipped" || s.Failure.Message != "" {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// Outcomes of a test.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// result is what became of a test.
type result struct {
	Name    string
	Area    string
	Outcome string
	Reason  string `json:",omitempty"` // of a failure, on one line
	Seconds float64
}

// resultOf reads what one test's process reported: its own result, or else that of the set-up step that failed before it began.
func resultOf(test, report string) result {
	r := result{Name: test, Area: areaOf(test), Outcome: failed, Reason: "it ended without a report"}
	all, err := specs(report)
	if err != nil {
		return r
	}
	for _, s := range all {
		own := s.LeafNodeType == "It" && s.name() == test
		switch {
		case own && s.State == "passed":
			return result{Name: r.Name, Area: r.Area, Outcome: passed, Seconds: s.RunTime.Seconds()}
		case own && (s.State == "skipped" || s.State == "pending"):
			return result{Name: r.Name, Area: r.Area, Outcome: skipped, Reason: oneLine(s.Failure.Message)}
		case own:
			r.Reason, r.Seconds = s.State+": "+oneLine(s.Failure.Message), s.RunTime.Seconds()
			return r
		case s.Failure.Message != "":
			r.Reason = s.LeafNodeType + ": " + oneLine(s.Failure.Message)
		}
	}
	return r
}

// oneLine shortens a message to what fits a list.
func oneLine(message string) string {
	text := strings.Join(strings.Fields(message), " ")
	if r := []rune(text); len(r) > 240 {
		text = string(r[:240]) + "..."
	}
	return text
}
