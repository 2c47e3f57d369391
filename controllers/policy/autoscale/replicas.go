package autoscale

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/podstate"
)

// sample is what one pod uses of something, in thousandths of its unit.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration // over which it was measured
}

// readiness says how young pods are looked at when CPU is measured: what a pod burns while it starts tells nothing.
type readiness struct {
	cpu     bool
	initial time.Duration // a pod that was never ready counts as starting for so long
	period  time.Duration // samples from the first so much of a pod's life do not count
}

// groups are pods by what their samples are good for.
type groups struct {
	ready   map[string]int64 // value by pod
	unready []string         // they start: nothing is known of their need
	missing []string         // no sample came
}

// group sorts pods. Those that ended or are being deleted belong to nobody.
func group(pods []*corev1.Pod, samples map[string]sample, r readiness, now time.Time) groups {
	g := groups{ready: map[string]int64{}}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || podstate.Terminal(pod) {
			continue
		}
		s, ok := samples[pod.Name]
		switch {
		case pod.Status.Phase == corev1.PodPending:
			g.unready = append(g.unready, pod.Name)
		case !ok:
			g.missing = append(g.missing, pod.Name)
		case r.cpu && starting(pod, s, r, now):
			g.unready = append(g.unready, pod.Name)
		default:
			g.ready[pod.Name] = s.value
		}
	}
	return g
}

func starting(pod *corev1.Pod, s sample, r readiness, now time.Time) bool {
	if pod.Status.StartTime == nil {
		return true
	}
	start := pod.Status.StartTime.Time
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.PodReady {
			continue
		}
		if start.Add(r.period).After(now) {
			// It has just started: it counts when it is ready and was so for the whole of the measurement.
			return c.Status == corev1.ConditionFalse || s.at.Before(c.LastTransitionTime.Add(s.window))
		}
		return c.Status == corev1.ConditionFalse && start.Add(r.initial).After(c.LastTransitionTime.Time)
	}
	return true
}

// tolerance is by which part the use may be over or under the target without anything being done.
type tolerance struct{ up, down float64 }

func (t tolerance) within(ratio float64) bool { return ratio >= 1-t.down && ratio <= 1+t.up }

// goal is what a metric should be: each pod's value, or with requests the percentage of what each pod asks for.
type goal struct {
	target   int64
	requests map[string]int64 // by pod; nil: the target is a value
}

// ratio is how much is used of what should be, and the average use, in the goal's terms.
func (g goal) ratio(values map[string]int64) (ratio float64, average int64, err error) {
	var used, asked int64
	for pod, v := range values {
		used += v
		asked += g.requests[pod]
	}
	if g.requests == nil {
		average = used / int64(len(values))
		return float64(average) / float64(g.target), average, nil
	}
	if asked == 0 {
		return 0, 0, errors.New("no pod asks for the resource")
	}
	average = used * 100 / asked
	return float64(average) / float64(g.target), average, nil
}

var errNoSamples = errors.New("no metrics returned for the pods: they may not be ready")

// replicasFor is how many pods bring a metric of pods to its goal. Pods of which nothing is known are taken to need what
// makes the step smaller, and never turn its direction.
func replicasFor(current int32, g groups, to goal, t tolerance) (replicas int32, average int64, err error) {
	if len(g.ready) == 0 {
		return 0, 0, errNoSamples
	}
	ratio, average, err := to.ratio(g.ready)
	if err != nil {
		return 0, 0, err
	}
	up := ratio > 1
	fill := up && len(g.unready) > 0
	if len(g.missing) == 0 && !fill {
		if t.within(ratio) {
			return current, average, nil
		}
		return onward(current, ceil(ratio*float64(len(g.ready))), up), average, nil
	}
	values := make(map[string]int64, len(g.ready)+len(g.missing))
	for pod, v := range g.ready {
		values[pod] = v
	}
	for _, pod := range g.missing {
		switch {
		case up:
			values[pod] = 0
		case to.requests == nil:
			values[pod] = to.target
		default:
			values[pod] = to.requests[pod] * max(100, to.target) / 100
		}
	}
	if fill {
		for _, pod := range g.unready {
			values[pod] = 0
		}
	}
	filled, _, err := to.ratio(values)
	if err != nil {
		return 0, 0, err
	}
	if t.within(filled) || (filled > 1) != up {
		return current, average, nil
	}
	return onward(current, ceil(filled*float64(len(values))), up), average, nil
}

// onward is a number of pods, unless it lies against the direction: there were fewer or more pods to be seen than there are to be.
func onward(current, replicas int32, up bool) int32 {
	if up {
		return max(current, replicas)
	}
	return min(current, replicas)
}

// replicasForTotal is how many pods a value that all share calls for: a target for the whole grows with the pods that
// are ready, one per pod divides.
func replicasForTotal(current, ready int32, value, target int64, perPod bool, t tolerance) int32 {
	if perPod {
		if current > 0 && t.within(float64(value)/(float64(target)*float64(current))) {
			return current
		}
		return ceil(float64(value) / float64(target))
	}
	ratio := float64(value) / float64(target)
	if current == 0 {
		return ceil(ratio)
	}
	if t.within(ratio) {
		return current
	}
	return ceil(ratio * float64(ready))
}

// ceil rounds up, but not for the noise of floating point.
func ceil(f float64) int32 {
	return int32(min(math.Ceil(f-1e-9), math.MaxInt32))
}

// requestsOf is what each pod asks for of a resource, or one of its containers, in thousandths.
func requestsOf(pods []*corev1.Pod, name corev1.ResourceName, container string) (map[string]int64, error) {
	out := map[string]int64{}
	for _, pod := range pods {
		if container == "" && pod.Spec.Resources != nil {
			if q, ok := pod.Spec.Resources.Requests[name]; ok {
				out[pod.Name] = q.MilliValue()
				continue
			}
		}
		var sum int64
		found := false
		for _, c := range long(pod) {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[name]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, pod.Name)
			}
			sum, found = sum+q.MilliValue(), true
		}
		if !found {
			return nil, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
		}
		out[pod.Name] = sum
	}
	return out, nil
}

// long are the containers that run as long as the pod does.
func long(pod *corev1.Pod) []corev1.Container {
	out := append([]corev1.Container(nil), pod.Spec.Containers...)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}
