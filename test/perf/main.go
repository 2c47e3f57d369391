// Command perf measures this project beside upstream on one machine and writes what came out.
//
//	perf -area dns -bin DIR -peers DIR -kubeconfig FILE -results DIR [-runs 3] [-page docs/benchmarks.md]
//
// The sides take turns, run by run, under one client with the same settings; a figure is the median of its runs. Results are kept as one JSON file for
// each area, and the page is written from all of them: a row that has not been measured says so, and one that is lost is shown like all others.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	bin, peers, kubeconfig, results, only string
	runs                                  int
	length                                time.Duration
	small                                 bool
}

// areas are what can be measured, by name.
var areas = map[string]func(context.Context, options) ([]measured, error){"dns": measureDNS, "apiserver": measureAPI, "scheduler": measureScheduler,
	"controllers": measureControllers, "cluster": measureCluster, "proxy": measureProxy}

func main() {
	var o options
	area := flag.String("area", "", "what to measure; empty: only write the page")
	page := flag.String("page", "", "page to write")
	flag.StringVar(&o.bin, "bin", ".hardway/bin", "folder of this project's daemons")
	flag.StringVar(&o.peers, "peers", ".hardway/bench/peers", "folder of upstream's programs")
	flag.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "a cluster to read from and make services in")
	flag.StringVar(&o.results, "results", "test/perf/results", "folder of results")
	flag.StringVar(&o.only, "only", "", "only this workload of area scheduler, or these steps of area controllers (deploy,scale,...), or so many services at most of area proxy; of the others the last figures stay")
	flag.IntVar(&o.runs, "runs", 3, "runs of each side")
	flag.DurationVar(&o.length, "length", 10*time.Second, "how long each run lasts")
	flag.BoolVar(&o.small, "small", false, "area controllers: a hundredth of the work, to see that it runs; no figure of it says anything")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *area, *page, o); err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, area, page string, o options) error {
	if area != "" {
		measure, known := areas[area]
		if !known {
			return fmt.Errorf("there is no area %s", area)
		}
		before := load()
		rows, err := measure(ctx, o)
		if err != nil {
			return fmt.Errorf("measure %s: %w", area, err)
		}
		if rows, err = keep(o, area, rows); err != nil {
			return err
		}
		text, err := json.MarshalIndent(outcome{Conditions: conditions(area, before, o), Rows: rows}, "", " ")
		if err != nil {
			return err
		}
		if err := os.MkdirAll(o.results, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.results, area+".json"), text, 0o644); err != nil {
			return err
		}
	}
	if page == "" {
		return nil
	}
	text, err := write(o.results)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

// keep adds the rows of an area that were not measured this time, when only some were.
func keep(o options, area string, rows []measured) ([]measured, error) {
	if o.only == "" {
		return rows, nil
	}
	text, err := os.ReadFile(filepath.Join(o.results, area+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	var before outcome
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, fmt.Errorf("results of %s: %w", area, err)
	}
	for _, old := range before.Rows {
		if !slices.ContainsFunc(rows, func(m measured) bool { return m.Key == old.Key }) {
			rows = append(rows, old)
		}
	}
	return rows, nil
}

// conditions are what a reader must know to judge a figure.
func conditions(area, before string, o options) string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	runs := fmt.Sprintf("%d alternating runs", o.runs)
	if area == "dns" || area == "apiserver" { // of a given length; others end when their work is done
		runs += fmt.Sprintf(" of %v each", o.length)
	}
	return fmt.Sprintf("%s, %d cores, Linux %s; %s; load of the machine %s before and %s after", time.Now().UTC().Format(time.DateOnly),
		runtime.NumCPU(), strings.TrimSpace(string(kernel)), runs, before, load())
}

// load is the load average of the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
