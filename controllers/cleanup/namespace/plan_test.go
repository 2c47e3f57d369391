package namespace

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/controllers/cleanup/resources"
)

func resource(group, name string, namespaced bool, verbs ...string) resources.Resource {
	return resources.Resource{GroupVersionResource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}, Namespaced: namespaced, Verbs: verbs}
}

func TestDeletable(t *testing.T) {
	set := resources.Set{All: []resources.Resource{
		resource("", "pods", true, "list", "delete"), resource("", "nodes", false, "list", "delete"), resource("", "bindings", true, "create"),
		resource("apps", "deployments", true, "list", "delete", "deletecollection"), resource("metrics.k8s.io", "pods", true, "list"),
	}}
	pods, others := deletable(set)
	if len(pods) != 1 || len(others) != 1 || others[0].Resource != "deployments" {
		t.Errorf("pods %v, others %v", pods, others)
	}
}

func TestConditions(t *testing.T) {
	find := func(list []corev1.NamespaceCondition, kind corev1.NamespaceConditionType) string {
		at := slices.IndexFunc(list, func(c corev1.NamespaceCondition) bool { return c.Type == kind })
		return string(list[at].Status) + " " + list[at].Reason + ": " + list[at].Message
	}
	none := tally{}
	for _, c := range none.conditions() {
		if c.Status != corev1.ConditionFalse || c.Reason == "" || c.Message == "" {
			t.Errorf("nothing left: %+v", c)
		}
	}
	left := tally{
		missing: []schema.GroupVersion{{Group: "metrics.k8s.io", Version: "v1beta1"}},
		left: []remains{
			{resource: schema.GroupResource{Resource: "pods"}, count: 2}, {resource: schema.GroupResource{Group: "apps", Resource: "deployments"}, count: 1, finalizers: map[string]int{"a/b": 1}},
			{resource: schema.GroupResource{Resource: "secrets"}, err: errors.New("denied")},
		},
	}
	got := left.conditions()
	for kind, want := range map[corev1.NamespaceConditionType]string{
		corev1.NamespaceDeletionDiscoveryFailure: "True DiscoveryFailed: Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1",
		corev1.NamespaceContentRemaining:         "True SomeResourcesRemain: Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances",
		corev1.NamespaceFinalizersRemaining:      "True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a/b in 1 resource instances",
		corev1.NamespaceDeletionContentFailure:   "True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: denied",
		corev1.NamespaceDeletionGVParsingFailure: "False ParsedGroupVersions: All legacy kube types successfully parsed",
	} {
		if have := find(got, kind); have != want {
			t.Errorf("%s\n have %s\n want %s", kind, have, want)
		}
	}
	if left.empty() || !none.empty() || (tally{asking: errors.New("x")}).empty() || (tally{missing: left.missing}).empty() {
		t.Error("what is empty")
	}
}

func TestWithConditions(t *testing.T) {
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status, changed := withConditions(corev1.NamespaceStatus{Phase: corev1.NamespaceActive}, tally{}.conditions(), first)
	if !changed || status.Phase != corev1.NamespaceTerminating || len(status.Conditions) != 5 {
		t.Fatalf("%t, %+v", changed, status)
	}
	if _, changed := withConditions(status, tally{}.conditions(), first.Add(time.Hour)); changed {
		t.Error("the same again is a change")
	}
	busy := tally{left: []remains{{resource: podResource, count: 1}}}
	later, changed := withConditions(status, busy.conditions(), first.Add(time.Hour))
	if !changed {
		t.Fatal("no change")
	}
	for _, c := range later.Conditions {
		if moved := c.LastTransitionTime.Equal(&metav1.Time{Time: first.Add(time.Hour)}); moved != (c.Type == corev1.NamespaceContentRemaining) {
			t.Errorf("%s: transition %v", c.Type, c.LastTransitionTime)
		}
	}
	if !strings.Contains(find(later), "pods. has 1") {
		t.Errorf("%+v", later.Conditions)
	}
}

func find(s corev1.NamespaceStatus) string {
	for _, c := range s.Conditions {
		if c.Type == corev1.NamespaceContentRemaining {
			return c.Message
		}
	}
	return ""
}

func TestPauseGrows(t *testing.T) {
	last := time.Duration(0)
	for n := range 20 {
		d := pause(n)
		if d < last || d > 15*time.Second || d <= 0 {
			t.Errorf("pass %d: %v after %v", n, d, last)
		}
		last = d
	}
}
