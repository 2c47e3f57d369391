//go:build robustness

package robustness

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"hardway/test/hardway"
	"hardway/test/machines"
)

var (
	controlPlane = []string{"controller-0", "controller-1", "controller-2"}
	nodes        = []string{"worker-0", "worker-1"}
)

// cluster is the cluster of the guide, up to its workers; with HARDWAY_ATTACH the one that runs, from that folder.
func cluster(t *testing.T) hardway.Lab {
	t.Helper()
	if dir := os.Getenv("HARDWAY_ATTACH"); dir != "" {
		lab, err := hardway.Attach(hardway.FilesOf(os.Getenv), dir)
		if err != nil {
			t.Fatal(err)
		}
		return lab
	}
	lab, steps, err := hardway.Start(t.Context(), hardway.FilesOf(os.Getenv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name, said := range lab.Journals(40) {
				t.Logf("%s:\n%s", name, said)
			}
		}
	})
	for _, step := range steps {
		if strings.HasPrefix(step.Section, "9.") {
			break
		}
		if err := lab.Follow(t.Context(), step, func(string, ...any) {}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lab["client"].Run(t.Context(), "kubectl apply -f hardway/examples/hello.yaml; kubectl rollout status deployment/hello --timeout=90s"); err != nil {
		t.Fatal(err)
	}
	return lab
}

// admin is the administrator's way through the load balancer, read from the client machine.
func admin(t *testing.T, lab hardway.Lab) *rest.Config {
	t.Helper()
	read := func(file string) []byte {
		text, err := lab["client"].Run(t.Context(), "cat pki/"+file)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(text)
	}
	return &rest.Config{Host: "https://" + lab["lb"].IP + ":6443", TLSClientConfig: rest.TLSClientConfig{CAData: read("ca.pem"), CertData: read("admin.pem"), KeyData: read("admin-key.pem")}}
}

func number(t *testing.T, variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// TestRandomFaults carries a plan out while clients work, lets the cluster recover, and checks what they saw.
func TestRandomFaults(t *testing.T) {
	seed, minutes := number(t, "SEED", 1), number(t, "MINUTES", 5)
	lab := cluster(t)
	load, err := StartLoad(t.Context(), admin(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now() // moved on by what faults take beyond their time, so that the cluster has its rest after each
	for _, f := range Plan(uint64(seed), time.Duration(minutes)*time.Minute, controlPlane, nodes) {
		<-time.After(time.Until(begin.Add(f.At)))
		t.Log(f)
		inject(t, lab, f)
		begin = begin.Add(max(0, time.Since(begin.Add(f.At+f.For))))
	}
	<-time.After(time.Until(begin.Add(time.Duration(minutes) * time.Minute)))
	recovered(t, lab)
	verdict(t, lab, load)
}

// inject does a fault for as long as it is meant to stay.
func inject(t *testing.T, lab hardway.Lab, f Fault) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	heal, err := injectors[f.Kind](ctx, lab, f)
	if err != nil {
		t.Errorf("%s: %v", f, err)
	}
	if heal == nil {
		return
	}
	<-time.After(f.For)
	if err := heal(ctx); err != nil {
		t.Errorf("%s: put it right: %v", f, err)
	}
}

// recovered waits until the cluster is as it was: every daemon runs, every node is ready, every pod of the sample, too.
func recovered(t *testing.T, lab hardway.Lab) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err := lab.Each(func(m *machines.Machine) error {
		switch {
		case slices.Contains(controlPlane, m.Name):
			_, err := m.Run(ctx, "until systemctl is-active -q hardway-apiserver hardway-controllers hardway-scheduler; do sleep 0.5; done")
			return err
		case slices.Contains(nodes, m.Name):
			_, err := m.Run(ctx, "until systemctl is-active -q hardway-nodeagent hardway-netproxy hardway-dns; do sleep 0.5; done")
			return err
		case m.Name == "client":
			_, err := m.Run(ctx, "until kubectl wait --for=condition=Ready node/worker-0 node/worker-1 --timeout=5s && kubectl rollout status deployment/hello --timeout=5s; do sleep 0.5; done >/dev/null 2>&1")
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatalf("the cluster did not recover by itself: %v", err)
	}
	t.Logf("recovered %.1f s after the last calm", time.Since(begin).Seconds())
}

// verdict collects what pods wrote, and asks the checkers.
func verdict(t *testing.T, lab hardway.Lab, load *Load) {
	t.Helper()
	var runs []Run
	for _, name := range nodes {
		for pod := range strings.FieldsSeq(must(t, lab[name], "cat "+RunsFile+" 2>/dev/null || true")) {
			runs = append(runs, Run{pod, name})
		}
	}
	judge(t, load, runs)
}

// judge stops the clients and asks the checkers.
func judge(t *testing.T, load *Load, runs []Run) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	watches, final, err := load.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	delete(final, "last")
	ops := load.History.Ops()
	count := map[Outcome]int{}
	for _, op := range ops {
		count[op.Outcome]++
	}
	longest, from := Silence(ops, 0, load.History.Now())
	breaks, gaps, events := 0, 0, 0
	for _, w := range watches {
		breaks, gaps, events = breaks+w.Breaks, gaps+len(w.Gaps), events+len(w.Events)
	}
	t.Logf("%d requests done, %d refused, %d without an answer; longest silence %s at %s; %d pods run; watchers were told %d events, connected anew %d times and listed anew %d times",
		count[Done], count[Refused], count[Unknown], longest.Round(time.Millisecond), from.Round(time.Second), len(runs), events, breaks, gaps)
	for _, wrong := range slices.Concat(Registers(ops, watches, final), Watches(ops, watches), Runs(runs)) {
		t.Error(wrong)
	}
}
