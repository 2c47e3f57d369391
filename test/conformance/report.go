package main

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tally counts outcomes.
type tally struct{ Passed, Failed, Skipped int }

func (t tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.Passed, t.Failed, t.Skipped)
}

// summary is a whole run, ordered for people.
type summary struct {
	Title   string
	Command string
	Tally   tally
	Areas   []areaSummary
}

type areaSummary struct {
	Name    string
	Tally   tally
	Results []result
}

func summarize(title, command string, results []result) summary {
	s := summary{Title: title, Command: command}
	results = slices.Clone(results)
	slices.SortFunc(results, func(a, b result) int { return cmp.Or(cmp.Compare(a.Area, b.Area), cmp.Compare(a.Name, b.Name)) })
	for _, r := range results {
		if n := len(s.Areas); n == 0 || s.Areas[n-1].Name != r.Area {
			s.Areas = append(s.Areas, areaSummary{Name: r.Area})
		}
		a := &s.Areas[len(s.Areas)-1]
		a.Results = append(a.Results, r)
		for _, t := range []*tally{&s.Tally, &a.Tally} {
			switch r.Outcome {
			case passed:
				t.Passed++
			case skipped:
				t.Skipped++
			default:
				t.Failed++
			}
		}
	}
	return s
}

// markdown writes the page for docs/.
func (s summary) markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance\n\nWritten by `%s`; not to be edited.\n\n%s: **%s**.\n\n", s.Command, s.Title, s.Tally)
	b.WriteString("| area | passed | failed | skipped |\n|---|---|---|---|\n")
	for _, a := range s.Areas {
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", a.Name, a.Tally.Passed, a.Tally.Failed, a.Tally.Skipped)
	}
	if s.Tally.Failed > 0 {
		b.WriteString("\n## What failed\n\n| area | test | how it ended |\n|---|---|---|\n")
		cell := strings.NewReplacer("|", "\\|", "<", "&lt;")
		for _, a := range s.Areas {
			for _, r := range a.Results {
				if r.Outcome == failed {
					fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Area, cell.Replace(r.Name), cell.Replace(r.Reason))
				}
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<meta charset="utf-8"><title>{{.Title}}</title>
<style>body{font:14px sans-serif;margin:2em}td{padding:2px 8px;vertical-align:top}.failed{color:#b00}.skipped{color:#777}summary{cursor:pointer}</style>
<h1>{{.Title}}</h1><p>{{.Tally}}</p>
{{range .Areas}}<details{{if .Tally.Failed}} open{{end}}><summary>{{.Name}}: {{.Tally}}</summary><table>
{{range .Results}}<tr class="{{.Outcome}}"><td>{{.Outcome}}<td>{{printf "%.1f" .Seconds}} s<td>{{.Name}}{{with .Reason}}<br><small>{{.}}</small>{{end}}
{{end}}</table></details>
{{end}}`))

func (s summary) html(w io.Writer) error { return page.Execute(w, s) }

// junit writes the form that CI systems read.
func (s summary) junit(w io.Writer) error {
	type message struct {
		Text string `xml:"message,attr"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Time    float64  `xml:"time,attr"`
		Failure *message `xml:"failure"`
		Skipped *message `xml:"skipped"`
	}
	type testsuite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	suite := testsuite{Name: s.Title, Tests: s.Tally.Passed + s.Tally.Failed + s.Tally.Skipped, Failures: s.Tally.Failed, Skipped: s.Tally.Skipped}
	for _, a := range s.Areas {
		for _, r := range a.Results {
			c := testcase{Name: r.Name, Class: r.Area, Time: r.Seconds}
			switch r.Outcome {
			case failed:
				c.Failure = &message{r.Reason}
			case skipped:
				c.Skipped = &message{r.Reason}
			}
			suite.Cases = append(suite.Cases, c)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", " ")
	return e.Encode(suite)
}

// write makes a file with a function.
func write(path string, content func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := content(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}
