//go:build hardway

package hardway

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hardway/test/machines"
)

// TestTheHardWay needs HARDWAY_LAB, a folder for the machines with base in it, HARDWAY_PAGE and HARDWAY_TARBALL. With
// HARDWAY_KEEP=1 the machines stay for a quarter of an hour afterwards.
func TestTheHardWay(t *testing.T) {
	text, err := os.ReadFile(os.Getenv("HARDWAY_PAGE"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := blocks(string(text))
	if err != nil {
		t.Fatal(err)
	}
	lab := start(t, string(text))
	tarball := os.Getenv("HARDWAY_TARBALL")
	if err := lab["client"].Copy(tarball, filepath.Join("/root", filepath.Base(tarball))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			explain(t, lab)
		}
		if os.Getenv("HARDWAY_KEEP") != "" {
			<-time.After(15 * time.Minute)
		}
	})
	begin := time.Now()
	for _, step := range steps {
		follow(t, lab, step)
	}
	t.Logf("the page took %.1f s", time.Since(begin).Seconds())
	exposure(t, lab)
}

// start turns on the machines of the page.
func start(t *testing.T, page string) map[string]*machines.Machine {
	known, err := hosts(page)
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("HARDWAY_LAB")
	base := filepath.Join(dir, "base")
	run, err := os.MkdirTemp(dir, "run")
	if err != nil {
		t.Fatal(err)
	}
	lab, err := machines.New(base, run, known)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	started := map[string]*machines.Machine{}
	for name := range known {
		m, err := lab.Machine(name)
		if err != nil {
			t.Fatal(err)
		}
		started[name] = m
	}
	each(t, started, func(ctx context.Context, m *machines.Machine) error { return m.Start(ctx) })
	t.Logf("%d machines up after %.1f s", len(started), time.Since(begin).Seconds())
	return started
}

func each(t *testing.T, lab map[string]*machines.Machine, do func(context.Context, *machines.Machine) error) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range lab {
		wg.Go(func() {
			if err := do(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// follow runs a block on its machines.
func follow(t *testing.T, lab map[string]*machines.Machine, step block) {
	t.Helper()
	chosen := map[string]*machines.Machine{}
	for _, name := range step.machines {
		chosen[name] = lab[name]
	}
	begin := time.Now()
	each(t, chosen, func(ctx context.Context, m *machines.Machine) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		out, err := m.Run(ctx, step.script)
		if err != nil {
			return err
		}
		if testing.Verbose() {
			t.Logf("line %d on %s:\n%s", step.line, m.Name, out)
		}
		return nil
	})
	first, _, _ := strings.Cut(step.script, "\n")
	t.Logf("line %d, %s: %.1f s: %s", step.line, strings.Join(step.machines, " "), time.Since(begin).Seconds(), first)
}

// explain shows what a person would look at after a failure.
func explain(t *testing.T, lab map[string]*machines.Machine) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, m := range lab {
		script := "for u in /etc/systemd/system/hardway-*.service; do journalctl -q --no-pager -n 15 -o cat -u $(basename $u); done"
		if name == "client" {
			script = "kubectl get pods -A -o wide; kubectl get events -A | tail -30"
		}
		out, _ := m.Run(ctx, script)
		t.Logf("%s:\n%s", name, out)
	}
}

// exposure asks systemd how tight the sandboxes are.
func exposure(t *testing.T, lab map[string]*machines.Machine) {
	for _, row := range []struct {
		machine string
		units   []string
	}{
		{"controller-0", []string{"hardway-apiserver", "hardway-controllers", "hardway-scheduler"}},
		{"worker-0", []string{"hardway-dns", "hardway-netproxy"}},
	} {
		for _, unit := range row.units {
			limit := "20" // tenths
			if slices.Contains([]string{"hardway-netproxy"}, unit) {
				limit = "30"
			}
			out, err := lab[row.machine].Run(t.Context(), "systemd-analyze security --no-pager --threshold="+limit+" "+unit+" | tail -1")
			if err != nil {
				t.Error(err)
			}
			t.Logf("%s", strings.TrimSpace(out))
		}
	}
}
