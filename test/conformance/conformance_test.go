package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const report = `[{"SpecReports":[
 {"LeafNodeType":"SynchronizedBeforeSuite","State":"passed"},
 {"ContainerHierarchyTexts":["[sig-network] DNS"],"LeafNodeText":"should answer [Conformance]","LeafNodeType":"It","State":%STATE%,"RunTime":1500000000,"Failure":{"Message":"it\n did   not"}},
 {"ContainerHierarchyTexts":["[sig-apps] Job"],"LeafNodeText":"not selected","LeafNodeType":"It","State":"skipped"}]}]`

func TestResultOf(t *testing.T) {
	const test = "[sig-network] DNS should answer [Conformance]"
	for _, row := range []struct{ name, report, outcome, reason string }{
		{"passed", strings.Replace(report, "%STATE%", `"passed"`, 1), passed, ""},
		{"failed", strings.Replace(report, "%STATE%", `"failed"`, 1), failed, "failed: it did not"},
		{"out of time", strings.Replace(report, "%STATE%", `"timedout"`, 1), failed, "timedout: it did not"},
		{"skipped by itself", strings.Replace(report, "%STATE%", `"skipped"`, 1), skipped, "it did not"},
		{"set-up failed", `[{"SpecReports":[{"LeafNodeType":"SynchronizedBeforeSuite","State":"failed","Failure":{"Message":"no nodes"}}]}]`, failed, "SynchronizedBeforeSuite: no nodes"},
		{"killed", "", failed, "it ended without a report"},
		{"rubbish", "{", failed, "it ended without a report"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "report.json")
			if row.report != "" {
				if err := os.WriteFile(path, []byte(row.report), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := resultOf(test, path)
			if r.Outcome != row.outcome || r.Reason != row.reason || r.Area != "network/dns" {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestReports(t *testing.T) {
	s := summarize("A run", "make", []result{
		{Name: "b", Area: "network/dns", Outcome: failed, Reason: "a | <b>"}, {Name: "a", Area: "network/dns", Outcome: passed}, {Name: "c", Area: "auth", Outcome: skipped},
	})
	if got := s.Tally.String(); got != "1 passed, 1 failed, 1 skipped" {
		t.Error(got)
	}
	var markdown, html, junit strings.Builder
	if err := s.markdown(&markdown); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(markdown.String(), "| auth | 0 | 0 | 1 |\n| network/dns | 1 | 1 | 0 |") || !strings.Contains(markdown.String(), `| network/dns | b | a \| &lt;b> |`) {
		t.Error(markdown.String())
	}
	if err := s.html(&html); err != nil || !strings.Contains(html.String(), "a | &lt;b&gt;") {
		t.Error(err, html.String())
	}
	if err := s.junit(&junit); err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	if err := xml.Unmarshal([]byte(junit.String()), &parsed); err != nil || parsed.Tests != 3 || parsed.Failures != 1 {
		t.Error(err, junit.String())
	}
}

func TestAreas(t *testing.T) {
	for test, want := range map[string]string{
		"[sig-node] Lease lease API should be available":   "api/namespaces-events",
		"[sig-node] KubeletManagedEtcHosts should test":    "node/runtime",
		"[sig-network] DNS should provide DNS":             "network/dns",
		"[sig-future] Something":                           "other",
		"[sig-storage] Projected downwardAPI should do it": "storage/downward",
	} {
		if got := areaOf(test); got != want {
			t.Errorf("%s: %s, want %s", test, got, want)
		}
	}
}
