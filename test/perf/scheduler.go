package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	schedNamespace = "bench-sched"
	schedClients   = 32 // that create pods and nodes at once
	schedPatience  = 10 * time.Minute
)

// measureScheduler lets kube-scheduler and ours place the same pods, in turn, against one API server of this project, both
// with the same configuration file and without limits to their clients.
func measureScheduler(ctx context.Context, o options) (out []measured, err error) {
	for i := range workloads {
		w := &workloads[i]
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), w.key) {
			continue
		}
		rows, err := w.measure(ctx, o)
		if err != nil {
			return out, fmt.Errorf("%s: %w", w.key, err)
		}
		out = append(out, rows...)
	}
	return out, nil
}

func (w *workload) measure(ctx context.Context, o options) ([]measured, error) {
	s, err := startStage(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.end()
	if err := s.prepare(ctx, w); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	config := filepath.Join(s.dir, "scheduler.yaml")
	text := "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\n" +
		"clientConnection: {kubeconfig: " + s.kubeconfig + ", qps: 100000, burst: 100000, contentType: application/vnd.kubernetes.protobuf}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	sides := [2][]string{
		{filepath.Join(o.peers, "kube-scheduler"), "--config=" + config, "--secure-port=10391", "--cert-dir=" + s.dir, "--authentication-kubeconfig=" + s.kubeconfig, "--authorization-kubeconfig=" + s.kubeconfig},
		{filepath.Join(o.bin, "hardway-scheduler"), "--config=" + config, "--secure-port=0"},
	}
	rows := []measured{{Key: w.key}, {Key: w.key + "cpu"}, {Key: w.key + "p50"}, {Key: w.key + "p99"}, {Key: w.key + "mem"}}
	for n := range o.runs {
		for side, command := range sides {
			r, err := w.run(ctx, s, command)
			if err != nil {
				return nil, fmt.Errorf("run %d of %s: %w", n+1, command[0], err)
			}
			fmt.Printf("%-20s %-18s run %d: %5.0f pods/s, %.2f ms CPU a pod, created to bound p50 %v p99 %v, %.0f MiB, load %s\n", w.key, filepath.Base(command[0]), n+1,
				r.rate, r.cost, r.p50.Round(time.Millisecond), r.p99.Round(time.Millisecond), r.memory, load())
			for i, v := range []float64{r.rate, r.cost, r.p50.Seconds() * 1000, r.p99.Seconds() * 1000, r.memory} {
				if side == 0 {
					rows[i].Upstream = append(rows[i].Upstream, v)
				} else {
					rows[i].Ours = append(rows[i].Ours, v)
				}
			}
		}
	}
	return rows, nil
}

type schedResult struct {
	rate, cost, memory float64 // pods/s, ms of CPU for each pod, MiB
	p50, p99           time.Duration
}

// run starts a scheduler, lets it take the nodes in by placing one pod, and measures from the first creation to the last binding.
func (w *workload) run(ctx context.Context, s *stage, command []string) (r schedResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, schedPatience)
	defer cancel()
	pods, warm, err := w.occupy(ctx, s)
	if err != nil {
		return r, err
	}
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(command[0])+".log"))
	if err != nil {
		return r, err
	}
	defer func() { _ = log.Close() }()
	scheduler := exec.CommandContext(ctx, command[0], command[1:]...)
	scheduler.Stdout, scheduler.Stderr = log, log
	scheduler.Cancel = func() error { return scheduler.Process.Signal(os.Interrupt) }
	scheduler.WaitDelay = 10 * time.Second
	if err := scheduler.Start(); err != nil {
		return r, err
	}
	defer func() {
		cancel()
		_ = scheduler.Wait()
		err = errors.Join(err, s.clear(context.WithoutCancel(ctx)))
	}()
	tell := func(err error) error {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	if _, err := s.place(ctx, []*corev1.Pod{warm}); err != nil {
		return r, tell(err)
	}
	before, err := cpu(scheduler.Process.Pid)
	if err != nil {
		return r, err
	}
	started := time.Now()
	latencies, err := s.place(ctx, pods)
	if err != nil {
		return r, tell(err)
	}
	took := time.Since(started)
	after, err := cpu(scheduler.Process.Pid)
	if err != nil {
		return r, err
	}
	slices.Sort(latencies)
	n := len(pods)
	r.rate, r.cost = float64(n)/took.Seconds(), (after-before)*1000/float64(n)
	r.p50, r.p99 = latencies[n/2], latencies[n*99/100]
	r.memory, err = rss(scheduler.Process.Pid)
	return r, err
}

// occupy makes the pods that are there before, and returns those to be measured and one to begin with. All that is there before has been decided
// about when that one, the last in the queue, is bound.
func (w *workload) occupy(ctx context.Context, s *stage) (pods []*corev1.Pod, warm *corev1.Pod, err error) {
	var there []*corev1.Pod
	switch {
	case w.full:
		if there, err = makePods([]string{"filler"}, w.nodes); err != nil {
			return nil, nil, err
		}
	case w.beside != "":
		if there, err = makePods([]string{w.beside}, noise); err != nil {
			return nil, nil, err
		}
	}
	for i, p := range there {
		p.Name = "there-" + p.Name
		if w.full {
			p.Spec.NodeName = nodeName(i)
		}
	}
	if err := s.create(ctx, there, nil); err != nil {
		return nil, nil, err
	}
	if pods, err = makePods(w.shapes, w.pods); err != nil {
		return nil, nil, err
	}
	if warm, err = shaped("plain", 0); err != nil {
		return nil, nil, err
	}
	warm.Name, warm.Labels = "warm", nil
	return pods, warm, nil
}
