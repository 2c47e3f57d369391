package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// row is one line of the table: what is measured, and what is promised.
type row struct {
	area, key, work string
	unit            string
	less            bool    // less is better
	target          float64 // ours must be so many times better than upstream's
}

// rows are all of the table, in order.
var rows = slices.Concat(apiRows, schedRows, ctlRows, clusterRows, proxyRows, []row{
	{"dns", "percore", "DNS, cluster names, cache warm: queries a second for each core of the server", "queries/s", false, 3},
	{"dns", "saturated", "the same, as many as this machine's other cores can ask", "queries/s", false, 1},
	{"dns", "memory", "DNS server's memory after it", "MiB", true, 2.9},
})

// measured is what came out for a row.
type measured struct {
	Key            string
	Upstream, Ours []float64 // each run
}

// outcome is what is kept of an area.
type outcome struct {
	Conditions string
	Rows       []measured
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

// spread is the lowest and the highest value.
func spread(values []float64) string {
	return figure(slices.Min(values)) + "-" + figure(slices.Max(values))
}

func figure(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// better is how many times better ours is.
func (r row) better(m measured) float64 {
	upstream, ours := median(m.Upstream), median(m.Ours)
	if r.less {
		return upstream / ours
	}
	return ours / upstream
}

// write makes the page from the results of a folder.
func write(results string) (string, error) {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `make bench`; not to be edited. Both sides ran on one machine in one go, taking turns; figures are medians, with the\n" +
		"lowest and the highest run behind them. What the ratio must be is the target; a row that falls short says so.\n\n" +
		"| work | unit | upstream | Hardway | ratio | target | command |\n|---|---|---|---|---|---|---|\n")
	var conditions []string
	for _, r := range rows {
		m, under, err := find(results, r)
		if err != nil {
			return "", err
		}
		command := "`make bench ONLY=" + r.area + "`"
		if m == nil {
			fmt.Fprintf(&b, "| %s | %s | not measured yet | | | %s | |\n", r.work, r.unit, figure(r.target))
			continue
		}
		verdict := ""
		if r.better(*m) < r.target {
			verdict = " (short of it)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s (%s) | %s (%s) | %s | %s%s | %s |\n", r.work, r.unit, figure(median(m.Upstream)), spread(m.Upstream),
			figure(median(m.Ours)), spread(m.Ours), figure(r.better(*m)), figure(r.target), verdict, command)
		if line := "- " + r.area + ": " + under; !slices.Contains(conditions, line) {
			conditions = append(conditions, line)
		}
	}
	fmt.Fprintf(&b, "\n## Conditions\n\n%s\n", strings.Join(conditions, "\n"))
	return b.String(), nil
}

// find reads what came out for a row; nil: nothing yet.
func find(results string, r row) (*measured, string, error) {
	text, err := os.ReadFile(filepath.Join(results, r.area+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	var o outcome
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, "", fmt.Errorf("results of %s: %w", r.area, err)
	}
	for _, m := range o.Rows {
		if m.Key == r.key {
			return &m, o.Conditions, nil
		}
	}
	return nil, "", nil
}
