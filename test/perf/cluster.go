package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	oneByOne, together, atATime = 20, 30, 10 // pods that are started
	resting                     = 30 * time.Second
)

var clusterRows = []row{
	{"cluster", "api", "a cluster of one node: from the start of the daemons to /readyz", "s", true, 2.9},
	{"cluster", "node", "the same, to node Ready", "s", true, 2.7},
	{"cluster", "memory", "the same, three pods in it: memory of all daemons (with etcd and containerd; without DNS)", "MiB", true, 3.1},
	{"cluster", "keeper", "the same: memory of its own for each pod, of shim or supervisor", "MiB", true, 1},
	{"cluster", "cpu", "the same: CPU of all daemons at rest", "% of a core", true, 4.5},
	{"cluster", "start", "a pod from its creation to Ready, one at a time, p50", "ms", true, 10},
	{"cluster", "start99", "the same, the slowest of 20", "ms", true, 5.6},
	{"cluster", "rate", "30 pods, ten at a time, until all are Ready", "pods/s", false, 9},
	{"cluster", "ten", "the same, from creation to Ready, p50", "ms", true, 8.8},
	{"cluster", "delete", "the 30 deleted, ten at a time, which end at once when they are told to", "pods/s", false, 4},
}

// measureCluster brings up a whole cluster by scripts/up.sh, of upstream's programs (test/peers stands in for all six daemons) and of this project's,
// in turn, and starts pods in it. No other cluster may run on the machine.
func measureCluster(ctx context.Context, o options) ([]measured, error) {
	out := make([]measured, len(clusterRows))
	for n := range o.runs {
		for side, name := range []string{"upstream", "hardway"} {
			figures, err := clusterRun(ctx, o, side == 0)
			if err != nil {
				return nil, fmt.Errorf("run %d of %s: %w", n+1, name, err)
			}
			for i, r := range clusterRows {
				v := figures[r.key]
				fmt.Printf("run %d %-9s %-8s %8.3f %s\n", n+1, name, r.key, v, r.unit)
				out[i].Key = r.key
				if side == 0 {
					out[i].Upstream = append(out[i].Upstream, v)
				} else {
					out[i].Ours = append(out[i].Ours, v)
				}
			}
		}
	}
	return out, nil
}

// machine is a cluster that runs.
type machine struct {
	dir     string // what it writes
	env     []string
	api     kubernetes.Interface
	figures map[string]float64
}

func clusterRun(ctx context.Context, o options, upstream bool) (figures map[string]float64, err error) {
	dir, err := os.MkdirTemp("", "hw")
	if err != nil {
		return nil, err
	}
	m := &machine{dir: filepath.Join(dir, "s"), figures: map[string]float64{}}
	m.env = append(os.Environ(), "HARDWAY_STATE="+m.dir, "HARDWAY_BIN="+filepath.Join(dir, "bin"), "PEERS="+o.peers, "NODES=1")
	overlay := []string{"test/peers/bin.sh", filepath.Join(dir, "bin")}
	if upstream {
		overlay = append(overlay, "apiserver", "controllers", "scheduler", "nodeagent", "netproxy", "dns")
	}
	if _, err := m.command(ctx, overlay...); err != nil {
		return nil, err
	}
	defer func() {
		if _, down := m.command(context.WithoutCancel(ctx), "test/peers/down.sh"); down != nil && err == nil {
			err = down
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	said, err := m.command(ctx, "scripts/up.sh")
	if err != nil {
		return nil, err
	}
	for key, form := range map[string]string{"api": `API ready after ([0-9.]+) s`, "node": `node Ready after ([0-9.]+) s`} {
		if found := regexp.MustCompile(form).FindStringSubmatch(said); found != nil {
			m.figures[key], _ = strconv.ParseFloat(found[1], 64) // the form says that it is a number
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(m.dir, "admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	if m.api, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{m.rest, m.pods} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return m.figures, nil
}

// command runs a program in the repository's folder, which is this process's.
func (m *machine) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// daemons are the processes of all daemons but the DNS server, and what upstream's need beside; keepers are those that stay with a pod.
func (m *machine) daemons() (daemons, keepers []int, err error) {
	for _, name := range []string{"apiserver", "controllers", "scheduler", "nodeagent", "netproxy"} {
		text, err := os.ReadFile(filepath.Join(m.dir, "run", name+".pid"))
		if err != nil {
			return nil, nil, err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, nil, fmt.Errorf("pid of %s: %w", name, err)
		}
		daemons = append(daemons, pid)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, nil, err
	}
	for _, dir := range dirs {
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may be gone
		words := strings.Split(string(line), "\x00")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		about := strings.Contains(string(line), m.dir+"/")
		switch name := filepath.Base(words[0]); {
		case (name == "etcd" || name == "containerd") && about:
			daemons = append(daemons, pid)
		case name == "containerd-shim-runc-v2" && about, name == "hardway-supervisor":
			keepers = append(keepers, pid)
		}
	}
	return daemons, keepers, nil
}

// rest measures what the cluster costs while nobody wants anything from it.
func (m *machine) rest(ctx context.Context) error {
	if err := wait(ctx, resting); err != nil {
		return err
	}
	daemons, keepers, err := m.daemons()
	if err != nil {
		return err
	}
	used := func() (seconds float64, err error) {
		for _, pid := range daemons {
			s, err := cpu(pid)
			if err != nil {
				return 0, err
			}
			seconds += s
		}
		return seconds, nil
	}
	before, err := used()
	if err != nil {
		return err
	}
	if err := wait(ctx, resting); err != nil {
		return err
	}
	after, err := used()
	if err != nil {
		return err
	}
	m.figures["cpu"] = (after - before) / resting.Seconds() * 100
	for _, pid := range daemons {
		mib, err := rss(pid)
		if err != nil {
			return err
		}
		m.figures["memory"] += mib
	}
	for _, pid := range keepers {
		mib, err := own(pid)
		if err != nil {
			return err
		}
		m.figures["keeper"] += mib / float64(len(keepers))
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// pods starts and removes some.
func (m *machine) pods(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	w, err := m.api.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "bench=pod"})
	if err != nil {
		return err
	}
	defer w.Stop()
	seen := &sightings{ready: map[string]chan time.Time{}, gone: map[string]chan time.Time{}}
	go seen.follow(w)
	if _, err := m.start(ctx, seen, "warm", 1, 1); err != nil {
		return err
	}
	single, err := m.start(ctx, seen, "single", oneByOne, 1)
	if err != nil {
		return err
	}
	slices.Sort(single)
	m.figures["start"], m.figures["start99"] = ms(single[len(single)/2]), ms(single[len(single)-1])
	began := time.Now()
	many, err := m.start(ctx, seen, "many", together, atATime)
	if err != nil {
		return err
	}
	m.figures["rate"] = together / time.Since(began).Seconds()
	slices.Sort(many)
	m.figures["ten"] = ms(many[len(many)/2])
	began = time.Now()
	if err := m.remove(ctx, seen, "many", together, atATime); err != nil {
		return err
	}
	m.figures["delete"] = together / time.Since(began).Seconds()
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// sightings are when the pods of a watch were first seen ready, and gone.
type sightings struct {
	mu          sync.Mutex
	ready, gone map[string]chan time.Time // guarded by mu
}

func (s *sightings) of(which map[string]chan time.Time, pod string) chan time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if which[pod] == nil {
		which[pod] = make(chan time.Time, 1)
	}
	return which[pod]
}

func (s *sightings) follow(w watch.Interface) {
	for e := range w.ResultChan() {
		now := time.Now()
		p, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		at := s.of(s.gone, p.Name)
		if e.Type != watch.Deleted {
			if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
				continue
			}
			at = s.of(s.ready, p.Name)
		}
		select {
		case at <- now:
		default: // seen before
		}
	}
}

// start creates pods, some at a time, each after one before it is ready, and returns how long each took.
func (m *machine) start(ctx context.Context, seen *sightings, group string, n, atOnce int) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	err := some(ctx, n, atOnce, func(i int) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", group, i), Labels: map[string]string{"bench": "pod"}}}
		p.Spec.AutomountServiceAccountToken = new(bool)
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "busybox:1.35", ImagePullPolicy: corev1.PullNever,
			Command: []string{"sh", "-c", "trap 'exit 0' TERM; sleep 10000 & wait"}}}
		began := time.Now()
		if _, err := m.api.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
		select {
		case at := <-seen.of(seen.ready, p.Name):
			took[i] = at.Sub(began)
			return nil
		case <-ctx.Done():
			return fmt.Errorf("pod %s is not ready: %w", p.Name, ctx.Err())
		}
	})
	return took, err
}

func (m *machine) remove(ctx context.Context, seen *sightings, group string, n, atOnce int) error {
	return some(ctx, n, atOnce, func(i int) error {
		name := fmt.Sprintf("%s-%d", group, i)
		if err := m.api.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		select {
		case <-seen.of(seen.gone, name):
			return nil
		case <-ctx.Done():
			return fmt.Errorf("pod %s is not gone: %w", name, ctx.Err())
		}
	})
}

// some does something n times, so many at once, and returns the first failure.
func some(ctx context.Context, n, atOnce int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		free <- struct{}{}
		wg.Go(func() {
			if err := do(i); err != nil {
				cancel(err)
			}
			<-free
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
