package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// grace is what a test gets for cleaning up when its time is over, and twice that is when its process is killed.
const grace = 30 * time.Second

// runner runs tests, each in a process of its own: one that crashes or hangs costs only itself.
type runner struct {
	program, kubectl, kubeconfig string
	out                          string
	parallel                     int
	limit                        time.Duration // for each test
	extra                        []string      // flags for the program
	say                          func(string, ...any)
}

// list asks the program which tests match, without running them.
func (r *runner) list(ctx context.Context, focus, skip []string) ([]spec, error) {
	report := filepath.Join(r.out, "plan.json")
	args := []string{"--ginkgo.dry-run", "--ginkgo.json-report=" + report}
	for _, f := range focus {
		args = append(args, "--ginkgo.focus="+f)
	}
	for _, s := range skip {
		args = append(args, "--ginkgo.skip="+s)
	}
	if out, err := exec.CommandContext(ctx, r.program, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("list tests: %w\n%s", err, out[max(0, len(out)-2000):])
	}
	all, err := specs(report)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s spec) bool { return s.LeafNodeType != "It" || s.State != "passed" }), nil
}

// all runs the tests: those that bear company so many at a time, then the serial ones alone. What ctx cuts off has no result.
func (r *runner) all(ctx context.Context, tests []spec) []result {
	var results []result
	var mu sync.Mutex
	started := time.Now()
	one := func(test spec) {
		got, over := r.one(ctx, test.name())
		if over {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		results = append(results, got)
		r.say("%4d/%d  %-7s %6.1fs  %s\n", len(results), len(tests), got.Outcome, got.Seconds, got.Name)
		if got.Outcome == failed {
			r.say("          %s\n", got.Reason)
		}
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, r.parallel)
	for _, t := range tests {
		if t.IsSerial {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			one(t)
		})
	}
	wg.Wait()
	for _, t := range tests {
		if t.IsSerial {
			one(t)
		}
	}
	r.say("%v\n", time.Since(started).Round(time.Second))
	return results
}

// unsafe are the characters of a test's name that do not go into a file's.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9]+`)

// one runs one test; over: ctx ended first.
func (r *runner) one(ctx context.Context, test string) (_ result, over bool) {
	if ctx.Err() != nil {
		return result{}, true
	}
	base := strings.Trim(unsafe.ReplaceAllString(test, "-"), "-")
	base = filepath.Join(r.out, "tests", base[:min(len(base), 180)])
	_ = os.Remove(base + ".json")
	log, err := os.Create(base + ".log")
	if err != nil {
		return result{Name: test, Area: areaOf(test), Outcome: failed, Reason: err.Error()}, false
	}
	defer func() { _ = log.Close() }()
	limited, cancel := context.WithTimeout(ctx, r.limit+2*grace)
	defer cancel()
	cmd := exec.CommandContext(limited, r.program, append([]string{
		"--ginkgo.focus=^Kubernetes e2e suite " + regexp.QuoteMeta(test) + "$", "--ginkgo.timeout=" + r.limit.String(),
		"--ginkgo.grace-period=" + grace.String(), "--ginkgo.v", "--ginkgo.silence-skips", "--ginkgo.no-color", "--ginkgo.json-report=" + base + ".json",
		"--kubeconfig=" + r.kubeconfig, "--kubectl-path=" + r.kubectl, "--provider=skeleton", "--node-os-arch=" + runtime.GOARCH, "--disable-log-dump",
		"--node-schedulable-timeout=2m", "--system-pods-startup-timeout=2m", "--system-daemonsets-startup-timeout=2m",
	}, r.extra...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	_ = cmd.Run() // what the report says counts
	if ctx.Err() != nil {
		return result{}, true
	}
	return resultOf(test, base+".json"), false
}
