package hardway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hardway/test/machines"
)

// Lab is the machines of the page, by name.
type Lab map[string]*machines.Machine

// Files says where what a lab needs lies. The make targets set the variables.
type Files struct {
	Dir     string // for the machines, with the file system "base" in it: HARDWAY_LAB
	Page    string // HARDWAY_PAGE
	Tarball string // HARDWAY_TARBALL
}

// FilesOf reads the environment.
func FilesOf(getenv func(string) string) Files {
	return Files{Dir: getenv("HARDWAY_LAB"), Page: getenv("HARDWAY_PAGE"), Tarball: getenv("HARDWAY_TARBALL")}
}

// Start turns the machines of the page on, and brings the tarball to the client. It returns the page's blocks as well.
func Start(ctx context.Context, f Files) (Lab, []Block, error) {
	page, err := os.ReadFile(f.Page)
	if err != nil {
		return nil, nil, err
	}
	steps, err := Blocks(string(page))
	if err != nil {
		return nil, nil, err
	}
	known, err := Hosts(string(page))
	if err != nil {
		return nil, nil, err
	}
	run, err := os.MkdirTemp(f.Dir, "run")
	if err != nil {
		return nil, nil, err
	}
	network, err := machines.New(filepath.Join(f.Dir, "base"), run, known)
	if err != nil {
		return nil, nil, err
	}
	lab := Lab{}
	for name := range known {
		m, err := network.Machine(name)
		if err != nil {
			return nil, nil, err
		}
		lab[name] = m
	}
	if err := lab.Each(func(m *machines.Machine) error { return m.Start(ctx) }); err != nil {
		return nil, nil, err
	}
	return lab, steps, lab["client"].Copy(f.Tarball, filepath.Join("/root", filepath.Base(f.Tarball)))
}

// Attach finds the machines of a lab that another test has started in the same namespaces. dir is the folder of that run.
func Attach(f Files, dir string) (Lab, error) {
	page, err := os.ReadFile(f.Page)
	if err != nil {
		return nil, err
	}
	known, err := Hosts(string(page))
	if err != nil {
		return nil, err
	}
	return machines.Attach(filepath.Join(f.Dir, "base"), dir, known)
}

// Each does something with all machines at the same time.
func (l Lab) Each(do func(*machines.Machine) error) error {
	failed := make(chan error, len(l))
	var wg sync.WaitGroup
	for _, m := range l {
		wg.Go(func() { failed <- do(m) })
	}
	wg.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Follow runs a block on its machines. What they print goes to log.
func (l Lab) Follow(ctx context.Context, step Block, log func(format string, args ...any)) error {
	chosen := Lab{}
	for _, name := range step.Machines {
		chosen[name] = l[name]
	}
	begin := time.Now()
	err := chosen.Each(func(m *machines.Machine) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		out, err := m.Run(ctx, step.Script)
		if err == nil {
			log("line %d on %s:\n%s", step.Line, m.Name, out)
		}
		return err
	})
	first, _, _ := strings.Cut(step.Script, "\n")
	log("line %d, %s: %.1f s: %s", step.Line, strings.Join(step.Machines, " "), time.Since(begin).Seconds(), first)
	if err != nil {
		return fmt.Errorf("line %d of the page: %w", step.Line, err)
	}
	return nil
}

// Journals is what a person would look at after a failure: the last lines of every daemon, by machine.
func (l Lab) Journals(lines int) map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	said := map[string]string{}
	for name, m := range l {
		script := fmt.Sprintf("for u in /etc/systemd/system/hardway-*.service; do journalctl -q --no-pager -n %d -o cat -u $(basename $u); done", lines)
		if name == "client" {
			script = "kubectl get pods -A -o wide; kubectl get events -A | tail -30"
		}
		said[name], _ = m.Run(ctx, script)
	}
	return said
}
