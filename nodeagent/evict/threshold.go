// Package evict keeps a node alive that runs out of memory, disk or process ids: it says which resource is short, shows
// that as a condition of the node, collects unused images, and then ends pods, one at a time, until enough is free.
//
//	gauges ─▶ Thresholds.Check ─▶ State.Next (hysteresis) ─▶ conditions, the signal to act on ─▶ Rank ─▶ one pod
//
// The deciding part (this file, state.go, rank.go) is pure. Names of signals, reasons and defaults are upstream's. A
// threshold is met at once when it is hard, after its grace period when it is soft; a condition goes only after the
// transition period, so that it does not flap. Pods that the node itself needs (critical priority) are never ended.
package evict

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that may run out.
type Signal string

// The signals.
const (
	Memory      Signal = "memory.available"
	NodeFS      Signal = "nodefs.available"
	NodeInodes  Signal = "nodefs.inodesFree"
	ImageFS     Signal = "imagefs.available"
	ImageInodes Signal = "imagefs.inodesFree"
	PIDs        Signal = "pid.available"
)

// order is the order in which signals are acted on; with each goes the condition that shows it.
var order = []struct {
	Signal
	condition corev1.NodeConditionType
}{
	{Memory, corev1.NodeMemoryPressure}, {NodeFS, corev1.NodeDiskPressure}, {NodeInodes, corev1.NodeDiskPressure},
	{ImageFS, corev1.NodeDiskPressure}, {ImageInodes, corev1.NodeDiskPressure}, {PIDs, corev1.NodePIDPressure},
}

// Defaults are upstream's hard thresholds.
var Defaults = map[string]string{
	string(Memory): "100Mi", string(NodeFS): "10%", string(NodeInodes): "5%", string(ImageFS): "15%", string(ImageInodes): "5%",
}

// Level is how much of something is left of how much.
type Level struct{ Available, Capacity int64 }

// Threshold is one limit.
type Threshold struct {
	Signal         Signal
	Amount         int64
	Percent        float64       // of the capacity, instead of Amount
	Grace          time.Duration // 0: hard
	Soft           bool
	Reclaim        int64 // so much more than the threshold is to be free before it counts as over
	ReclaimPercent float64
}

// Value is the threshold in units of its signal, of which there are capacity.
func (t Threshold) Value(capacity int64) int64 {
	if t.Percent > 0 {
		return int64(float64(capacity) * t.Percent / 100)
	}
	return t.Amount
}

func (t Threshold) reclaim(capacity int64) int64 {
	if t.ReclaimPercent > 0 {
		return int64(float64(capacity) * t.ReclaimPercent / 100)
	}
	return t.Reclaim
}

// met says whether too little is left; reached, whether it was met before, asks for the minimum reclaim on top.
func (t Threshold) met(l Level, reached bool) bool {
	limit := t.Value(l.Capacity)
	if reached {
		limit += t.reclaim(l.Capacity)
	}
	return l.Capacity > 0 && l.Available < limit
}

// Parse reads the thresholds of a KubeletConfiguration.
func Parse(hard, soft, softGrace, reclaim map[string]string) ([]Threshold, error) {
	var out []Threshold
	var errs []error
	for _, list := range []struct {
		name   string
		values map[string]string
		soft   bool
	}{{"evictionHard", hard, false}, {"evictionSoft", soft, true}} {
		for _, name := range slices.Sorted(maps.Keys(list.values)) {
			t, err := threshold(name, list.values[name], reclaim[name])
			if err == nil && list.soft {
				t.Soft = true
				if t.Grace, err = time.ParseDuration(softGrace[name]); err != nil {
					err = fmt.Errorf("evictionSoftGracePeriod: %w", err)
				}
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s[%s]: %w", list.name, name, err))
				continue
			}
			if t.Amount > 0 || t.Percent > 0 { // "0%" switches a threshold off
				out = append(out, t)
			}
		}
	}
	return out, errors.Join(errs...)
}

func threshold(name, value, reclaim string) (Threshold, error) {
	t := Threshold{Signal: Signal(name)}
	if !slices.ContainsFunc(order, func(o struct {
		Signal
		condition corev1.NodeConditionType
	}) bool {
		return o.Signal == t.Signal
	}) {
		return t, errors.New("unknown signal")
	}
	var err error
	if t.Amount, t.Percent, err = amount(value); err == nil && reclaim != "" {
		t.Reclaim, t.ReclaimPercent, err = amount(reclaim)
	}
	return t, err
}

// amount reads "100Mi" or "10%".
func amount(s string) (int64, float64, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || f < 0 || f > 100 {
			return 0, 0, fmt.Errorf("%q is not a percentage", s)
		}
		return 0, f, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() < 0 {
		return 0, 0, fmt.Errorf("%q is neither a quantity nor a percentage", s)
	}
	return q.Value(), 0, nil
}
