package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	apiNamespace = "bench"
	apiConns     = 4 // connections that workers share
	payload      = 1 << 10
)

// crudVerbs are in the order in which they are done to the same objects.
var crudVerbs = []string{"create", "update", "get", "delete"}

// apiRows are the lines of the table about the API server. Targets are those of the project's design.
var apiRows = makeAPIRows()

func makeAPIRows() []row {
	var out []row
	for _, c := range []int{1, 32} {
		for _, verb := range crudVerbs {
			target := map[int]float64{1: 2.5, 32: 3}[c]
			if verb == "get" {
				target = map[int]float64{1: 3, 32: 5}[c]
			}
			out = append(out, row{"apiserver", fmt.Sprint(verb, c), fmt.Sprintf("%s 1 KiB ConfigMaps, %d at a time", verb, c), "requests/s", false, target})
			if c == 1 {
				out = append(out, row{"apiserver", verb + "p99", "the same, p99", "ms", true, 2})
			}
		}
	}
	return append(out,
		row{"apiserver", "create32cpu", "CPU of API server and etcd for each create, 32 at a time", "ms", true, 3},
		row{"apiserver", "ready", "start of API server and etcd to /readyz, nothing stored", "s", true, 2.9},
		row{"apiserver", "restart", "the same with 10,000 pods stored", "s", true, 2.9},
		row{"apiserver", "memory", "memory of API server and etcd, idle, nothing stored", "MiB", true, 2},
		row{"apiserver", "memory10k", "the same with 10,000 pods, a minute after a restart", "MiB", true, 2},
		row{"apiserver", "listjson", "list 10,000 pods, JSON", "lists/s", false, 8},
		row{"apiserver", "listproto", "list 10,000 pods, protobuf", "lists/s", false, 8},
		row{"apiserver", "listjsongzip", "list 10,000 pods, JSON, gzip", "lists/s", false, 3},
		row{"apiserver", "listprotogzip", "list 10,000 pods, protobuf, gzip", "lists/s", false, 3},
		row{"apiserver", "listmemory", "growth of memory by those lists", "MiB", true, 5},
		row{"apiserver", "watch100", "watch: 100 watchers, events as fast as they come", "deliveries/s", false, 5},
		row{"apiserver", "watch1000", "watch: 1,000 watchers, events as fast as they come", "deliveries/s", false, 5},
		row{"apiserver", "watch200p99", "watch: 100 watchers at 200 events/s, p99 from create to arrival", "ms", true, 4},
		row{"apiserver", "watch200cpu", "the same, CPU of API server and etcd", "s", true, 4},
	)
}

// figures collects what comes out, by row and side.
type figures struct{ by map[string]*measured }

func (f *figures) add(key string, s *apiSide, value float64) {
	m := f.by[key]
	if m == nil {
		m = &measured{Key: key}
		f.by[key] = m
	}
	fmt.Printf("%-9s %-14s %s\n", s.name, key, figure(value))
	if s.name == "upstream" {
		m.Upstream = append(m.Upstream, value)
	} else {
		m.Ours = append(m.Ours, value)
	}
}

// parts of the measurement, each on a server that runs; BENCH_PARTS picks some.
var apiParts = []struct {
	name    string
	measure func(*apiRun) error
}{
	{"crud1", func(r *apiRun) error { return r.crud(1, 1500) }},
	{"crud32", func(r *apiRun) error { return r.crud(32, 5000) }},
	{"watch100", func(r *apiRun) error { return r.fanOut("watch100", 100, 1500, 0) }},
	{"watch1000", func(r *apiRun) error { return r.fanOut("watch1000", 1000, 150, 0) }},
	{"watch200", func(r *apiRun) error { return r.fanOut("watch200", 100, 1500, 200) }},
	{"list", (*apiRun).lists},
}

// measureAPI runs all parts against each side in turn, on an empty store each time.
func measureAPI(ctx context.Context, o options) ([]measured, error) {
	dir, err := os.MkdirTemp("", "bench-api")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	sides, err := apiSides(o, dir)
	if err != nil {
		return nil, err
	}
	f := &figures{by: map[string]*measured{}}
	for n := range o.runs {
		for _, s := range sides {
			if err := measureSide(ctx, s, f); err != nil {
				return nil, fmt.Errorf("run %d of %s: %w", n+1, s.name, err)
			}
		}
	}
	var out []measured
	for _, r := range apiRows {
		if m := f.by[r.key]; m != nil && len(m.Ours) > 0 && len(m.Upstream) > 0 {
			out = append(out, *m)
		}
	}
	return out, nil
}

// apiRun is one run against one side.
type apiRun struct {
	ctx     context.Context
	side    *apiSide
	out     *figures
	clients []*kubernetes.Clientset
}

func measureSide(ctx context.Context, s *apiSide, f *figures) error {
	if err := s.fresh(); err != nil {
		return err
	}
	took, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	f.add("ready", s, took.Seconds())
	r := &apiRun{ctx: ctx, side: s, out: f}
	if err := r.prepare(); err != nil {
		return err
	}
	settle(ctx, 5*time.Second)
	_, memory := s.used()
	f.add("memory", s, memory)
	wanted := strings.Fields(os.Getenv("BENCH_PARTS"))
	for _, p := range apiParts {
		if len(wanted) > 0 && !slices.Contains(wanted, p.name) {
			continue
		}
		if err := p.measure(r); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// settle lets a server come to rest.
func settle(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// prepare connects and makes the namespace.
func (r *apiRun) prepare() error {
	var err error
	if r.clients, err = r.side.clients(apiConns); err != nil {
		return err
	}
	_, err = r.clients[0].CoreV1().Namespaces().Create(r.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: apiNamespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = r.clients[0].CoreV1().ServiceAccounts(apiNamespace).Create(r.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for _, c := range r.clients {
		if _, err := c.CoreV1().Namespaces().Get(r.ctx, apiNamespace, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// crud does every verb to the same n ConfigMaps, c at a time.
func (r *apiRun) crud(c, n int) error {
	for _, verb := range crudVerbs {
		var took latencies
		before, _ := r.side.used()
		begin := time.Now()
		err := r.parallel(n, c, func(api *kubernetes.Clientset, i int) error {
			start := time.Now()
			defer func() { took.add(time.Since(start)) }()
			return crudOne(r.ctx, api, verb, i)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		seconds := time.Since(begin).Seconds()
		after, _ := r.side.used()
		r.out.add(fmt.Sprint(verb, c), r.side, float64(n)/seconds)
		if c == 1 {
			r.out.add(verb+"p99", r.side, took.percentile(99))
		}
		if c == 32 && verb == "create" {
			r.out.add("create32cpu", r.side, (after-before)*1000/float64(n))
		}
	}
	return nil
}

func crudOne(ctx context.Context, api *kubernetes.Clientset, verb string, i int) error {
	maps := api.CoreV1().ConfigMaps(apiNamespace)
	name := fmt.Sprintf("bench-%06d", i)
	object := func(fill string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "bench"}},
			Data: map[string]string{"payload": strings.Repeat(fill, payload)}}
	}
	var err error
	switch verb {
	case "create":
		_, err = maps.Create(ctx, object("a"), metav1.CreateOptions{})
	case "update":
		_, err = maps.Update(ctx, object("b"), metav1.UpdateOptions{})
	case "get":
		_, err = maps.Get(ctx, name, metav1.GetOptions{})
	case "delete":
		err = maps.Delete(ctx, name, metav1.DeleteOptions{})
	}
	return err
}

// parallel calls do for 0 to n-1 from c workers that share the connections, and stops at the first error.
func (r *apiRun) parallel(n, c int, do func(api *kubernetes.Clientset, i int) error) error {
	var next atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for worker := range c {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && first.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(r.clients[worker%len(r.clients)], i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

// latencies are those of many workers.
type latencies struct {
	mu     sync.Mutex
	values []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values = append(l.values, d)
}

// percentile is in milliseconds, by the nearest rank.
func (l *latencies) percentile(p int) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.values)
	return float64(l.values[(len(l.values)*p+99)/100-1].Microseconds()) / 1000
}
