// Command conformance runs upstream's conformance suite, or parts of it, against a cluster and says what passed.
//
//	conformance -program e2e.test -kubectl kubectl -kubeconfig FILE -out DIR [-focus REGEX] [-area NAME] [-skip REGEX] [-parallel N] [-limit 10m]
//
// Every test runs in a process of its own. DIR gets results.json, junit.xml, index.html, and under tests/ a log for each test. With -page, and only
// after a run of the whole suite, the result by area is written there as well. The exit status is 1 if a test failed and 2 if there was no run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	runner
	focus, area, skip list
	listOnly          bool
	page, title       string
	command           string // that the page names
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// everything selects the whole suite.
const everything = `\[Conformance\]`

func main() {
	var o options
	flag.StringVar(&o.program, "program", "", "upstream's e2e.test")
	flag.StringVar(&o.kubectl, "kubectl", "kubectl", "kubectl of the same version")
	flag.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "an administrator's way to the cluster")
	flag.StringVar(&o.out, "out", "conformance", "folder for reports and logs")
	flag.Var(&o.focus, "focus", "regular expression on names of conformance tests; may be repeated (default: all)")
	flag.Var(&o.area, "area", "area, such as network/dns or network; may be repeated")
	flag.Var(&o.skip, "skip", "regular expression on names of tests to leave out; may be repeated")
	flag.IntVar(&o.parallel, "parallel", 1, "tests at a time; serial ones run alone, last")
	flag.DurationVar(&o.limit, "limit", 15*time.Minute, "time for each test")
	flag.BoolVar(&o.listOnly, "list", false, "print the selected tests and stop")
	flag.StringVar(&o.page, "page", "", "Markdown page to write after a run of the whole suite")
	flag.StringVar(&o.title, "title", "Conformance", "of the reports")
	flag.StringVar(&o.command, "command", "make conformance", "what the page says it was written by")
	flag.Parse()
	o.extra = flag.Args()
	o.say = func(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format, args...) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failures, err := run(ctx, &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	if failures > 0 {
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) (failures int, err error) {
	if o.parallel < 1 || o.limit <= 0 {
		return 0, errors.New("-parallel and -limit must be above 0")
	}
	for _, path := range []*string{&o.program, &o.kubectl, &o.kubeconfig, &o.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return 0, err
		}
	}
	if err := os.MkdirAll(filepath.Join(o.out, "tests"), 0o755); err != nil {
		return 0, err
	}
	tests, err := o.list(ctx, []string{everything}, nil)
	if err != nil {
		return 0, err
	}
	whole := len(tests)
	if tests, err = o.selected(ctx, tests); err != nil {
		return 0, err
	}
	if len(tests) == 0 {
		return 0, errors.New("no test matches")
	}
	if o.listOnly {
		for _, t := range tests {
			o.say("%-26s %s\n", areaOf(t.name()), t.name())
		}
		return 0, nil
	}
	o.say("%d of %d tests, %d at a time; logs in %s\n", len(tests), whole, o.parallel, filepath.Join(o.out, "tests"))
	s := summarize(o.title, o.command, o.all(ctx, tests))
	if err := o.report(s); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("interrupted after %s", s.Tally)
	}
	if o.page != "" && len(tests) == whole {
		if err := write(o.page, s.markdown); err != nil {
			return 0, err
		}
	}
	for _, a := range s.Areas {
		for _, r := range a.Results {
			if r.Outcome == failed {
				o.say("FAILED  %s\n", r.Name)
			}
		}
	}
	o.say("%s\n", s.Tally)
	return s.Tally.Failed, nil
}

// selected keeps the tests that the command line asks for, of the conformance tests.
func (o *options) selected(ctx context.Context, tests []spec) ([]spec, error) {
	if len(o.focus)+len(o.skip) > 0 {
		focus := o.focus
		if len(focus) == 0 {
			focus = list{everything}
		}
		some, err := o.list(ctx, focus, o.skip)
		if err != nil {
			return nil, err
		}
		tests = slices.DeleteFunc(some, func(s spec) bool { return !strings.Contains(s.name(), "[Conformance]") })
	}
	for _, a := range o.area {
		if !slices.ContainsFunc(areas, func(b area) bool { return within(b.name, a) }) {
			return nil, fmt.Errorf("there is no area %s", a)
		}
	}
	return slices.DeleteFunc(tests, func(s spec) bool {
		return len(o.area) > 0 && !slices.ContainsFunc(o.area, func(a string) bool { return within(areaOf(s.name()), a) })
	}), nil
}

// within reports whether an area is another or a part of it.
func within(area, other string) bool { return area == other || strings.HasPrefix(area, other+"/") }

// report writes the files.
func (o *options) report(s summary) error {
	var all []result
	for _, a := range s.Areas {
		all = append(all, a.Results...)
	}
	return errors.Join(
		write(filepath.Join(o.out, "results.json"), func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", " ")
			return e.Encode(all)
		}),
		write(filepath.Join(o.out, "junit.xml"), s.junit),
		write(filepath.Join(o.out, "index.html"), s.html),
	)
}
