package main

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// shapes are pods as text, one file for each shape.
//
//go:embed workloads
var shapes embed.FS

// workload is pods of some shapes on nodes that are objects only: nothing but the API server and a scheduler acts on them.
type workload struct {
	key, work string
	nodes     int
	pods      int
	shapes    []string // in turn
	beside    string   // shape of noise pods that wait all the while; "": none
	full      bool     // a filler on every node has to go first
	volumes   bool     // each pod has a claim
	rate, cpu float64  // targets
}

const (
	schedPods = 5000
	noise     = 5000
)

// scale makes a workload for some number of nodes of each kind.
func scale(nodes int) []workload {
	plain := workload{nodes: nodes, pods: schedPods, rate: 3, cpu: 10}
	rules := workload{nodes: nodes, pods: schedPods, rate: 4, cpu: 20}
	of := func(w workload, key, work string, shapes ...string) workload {
		w.key, w.work, w.shapes = key+strconv.Itoa(nodes), work, shapes
		return w
	}
	beside := func(w workload, shape string) workload { w.beside = shape; return w }
	evicting := plain
	evicting.full, evicting.pods = true, nodes/2
	mounting := plain
	mounting.volumes, mounting.pods = true, schedPods/2
	return []workload{
		of(plain, "plain", "plain pods", "plain"),
		of(plain, "nodeaffinity", "required and preferred node affinity", "nodeaffinity"),
		of(rules, "spread", "required spread over ten zones", "spread"),
		of(rules, "softspread", "preferred spread over zones and nodes", "softspread"),
		of(rules, "affinity", "required affinity, 100 groups by zone", "affinity"),
		of(rules, "antiaffinity", "required anti-affinity, 100 groups by node", "antihost"),
		of(rules, "antizone", "required anti-affinity, tens by zone", "antizone"),
		of(rules, "prefersapart", "preferred anti-affinity, 100 groups by node", "prefersapart"),
		of(rules, "prefersapartzone", "preferred anti-affinity, 100 groups by zone", "prefersapartzone"),
		of(rules, "mixed", "all of these in turn", "plain", "nodeaffinity", "spread", "softspread", "affinity", "antihost", "prefersapart"),
		of(evicting, "preemption", fmt.Sprintf("%d pods, each evicting another", evicting.pods), "important"),
		of(beside(plain, "gated"), "gated", "plain pods beside 5,000 gated ones", "plain"),
		of(beside(plain, "impossible"), "impossible", "plain pods beside 5,000 that fit nowhere", "plain"),
		of(mounting, "volumes", fmt.Sprintf("%d pods with a bound volume each", mounting.pods), "volume"),
	}
}

// workloads are all that is measured; the largest cluster with what grows most with it only.
var workloads = slices.Concat(scale(1000), scale(5000), slices.DeleteFunc(scale(15000), func(w workload) bool {
	return !slices.Contains([]string{"plain15000", "spread15000", "antiaffinity15000"}, w.key)
}))

var schedRows = func() (out []row) {
	for _, w := range workloads {
		work := fmt.Sprintf("schedule on %d nodes: %s", w.nodes, w.work)
		out = append(out, row{"scheduler", w.key, work, "pods/s", false, w.rate}, row{"scheduler", w.key + "cpu", "the same: CPU of the scheduler for each pod", "ms", true, w.cpu})
		if w.shapes[0] == "plain" && w.beside == "" && len(w.shapes) == 1 {
			out = append(out,
				row{"scheduler", w.key + "p50", "the same: from creation to bound, p50", "ms", true, 1},
				row{"scheduler", w.key + "p99", "the same: from creation to bound, p99", "ms", true, 1},
				row{"scheduler", w.key + "mem", "the same: memory of the scheduler at the end", "MiB", true, 2})
		}
	}
	return out
}()

// shaped is the i-th pod of a shape.
func shaped(shape string, i int) (*corev1.Pod, error) {
	p := &corev1.Pod{}
	replace := strings.NewReplacer("NUMBER", fmt.Sprintf("%06d", i), "GROUP", fmt.Sprint("g", i%100), "TEN", fmt.Sprint("t", i/10))
	for _, name := range []string{"base", shape} {
		text, err := shapes.ReadFile("workloads/" + name + ".yaml")
		if err != nil {
			return nil, err
		}
		if err := yaml.UnmarshalStrict([]byte(replace.Replace(string(text))), p); err != nil {
			return nil, fmt.Errorf("shape %s: %w", name, err)
		}
	}
	return p, nil
}

// makePods makes n pods of the shapes in turn.
func makePods(shapes []string, n int) (out []*corev1.Pod, err error) {
	for i := range n {
		p, err := shaped(shapes[i%len(shapes)], i)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
