package autoscale

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/workload/model"
)

const (
	asks   = 100 // thousandths of a core that each pod asks for
	goalOf = 50  // percent of them that each should use
)

// far is longer ago than any window or period of a plant.
const far = 10 * time.Minute

// plant is a workload whose pods share a load, and its autoscaler. Replicas are the truth; the controller sees pods that lag behind.
type plant struct {
	*rand.Rand
	t        *testing.T
	seed     uint64
	now      time.Time
	replicas int32
	load     int64 // thousandths of a core, of all pods together
	pods     []*corev1.Pod
	cached   []*corev1.Pod
	samples  map[string]sample
	limits   limits
	past     *past
	memory   time.Time // since when the controller remembers
	history  []event   // the number of replicas over time
	wanted   []event   // what was called for, as far as it is remembered
	made     int
	log      []string
}

func newPlant(t *testing.T, seed uint64) *plant {
	p := &plant{Rand: rand.New(rand.NewPCG(seed, 1)), t: t, seed: seed, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), past: &past{}}
	p.limits = limits{least: 1 + p.Int32N(3), most: 5 + p.Int32N(60), patience: time.Duration(p.IntN(300)) * time.Second}
	if p.IntN(2) == 0 {
		p.limits.up, p.limits.down = p.rules(), p.rules()
	}
	p.replicas, p.load, p.memory = p.limits.least, 10+p.Int64N(2000), p.now
	return p
}

func (p *plant) rules() *autoscalingv2.HPAScalingRules {
	r := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(p.Int32N(400))}
	kinds := []autoscalingv2.HPAScalingPolicyType{autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy}
	for range p.IntN(3) {
		r.Policies = append(r.Policies, autoscalingv2.HPAScalingPolicy{Type: kinds[p.IntN(2)], Value: 1 + p.Int32N(100), PeriodSeconds: 1 + p.Int32N(120)})
	}
	if p.IntN(3) == 0 {
		r.SelectPolicy = new(autoscalingv2.MinChangePolicySelect)
	}
	return r
}

func (p *plant) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("seed %d: %s\n%v", p.seed, fmt.Sprintf(format, args...), p.log[max(0, len(p.log)-20):])
}

// step lets time pass: pods follow the number of replicas and become ready, the load changes, the cache perhaps catches up.
func (p *plant) step(steady bool) {
	p.now = p.now.Add(time.Duration(1+p.IntN(20)) * time.Second)
	if !steady && p.IntN(10) == 0 {
		p.load = max(1, p.load*int64(50+p.IntN(150))/100)
	}
	for len(p.pods) > int(p.replicas) {
		p.pods = p.pods[:len(p.pods)-1]
	}
	for len(p.pods) < int(p.replicas) {
		p.made++
		p.pods = append(p.pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", p.made)}, Status: corev1.PodStatus{Phase: corev1.PodPending}})
	}
	ready := 0
	for i, pod := range p.pods {
		if pod.Status.Phase == corev1.PodPending && (steady || p.IntN(3) > 0) {
			pod = pod.DeepCopy()
			pod.Status.Phase = corev1.PodRunning
			begin := metav1.NewTime(p.now.Add(-time.Hour)) // it has no youth that would have to be waited for
			pod.Status.StartTime = &begin
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: begin}}
			p.pods[i] = pod
		}
		if pod.Status.Phase == corev1.PodRunning {
			ready++
		}
	}
	if steady || p.IntN(3) > 0 {
		p.cached = append([]*corev1.Pod(nil), p.pods...)
	}
	p.samples = map[string]sample{}
	for _, pod := range p.pods {
		if pod.Status.Phase == corev1.PodRunning && (steady || p.IntN(5) > 0) { // some samples never come
			p.samples[pod.Name] = sample{p.load / int64(ready), p.now, time.Second}
		}
	}
}

// pass is one round of the controller. Its answer may be lost: then the change is made and not remembered.
func (p *plant) pass(steady bool) {
	requests := map[string]int64{}
	for _, pod := range p.cached {
		requests[pod.Name] = asks
	}
	g := group(p.cached, p.samples, readiness{cpu: true}, p.now)
	want, average, err := replicasFor(p.replicas, g, goal{goalOf, requests}, tolerance{0.1, 0.1})
	if err != nil {
		return
	}
	if average > goalOf && want < p.replicas || average < goalOf && want > p.replicas {
		p.fail("%d%% are used, %d should be, and of %d pods %d are to be", average, goalOf, p.replicas, want)
	}
	d := decide(p.replicas, want, p.past, p.limits, p.now)
	p.wanted = append(recent(p.wanted, p.now.Add(-far)), event{p.now, want})
	p.check(d.replicas)
	if d.replicas == p.replicas {
		return
	}
	p.log = append(p.log, fmt.Sprintf("%s %d -> %d (%d called for)", p.now.Format("15:04:05"), p.replicas, d.replicas, want))
	if !steady && p.IntN(20) == 0 {
		for i := range p.history { // to the controller it is as if somebody else had changed it
			p.history[i].n += d.replicas - p.replicas
		}
	} else {
		p.past.scaled(p.replicas, d.replicas, p.now)
	}
	p.replicas = d.replicas
	p.history = append(p.history, event{p.now, p.replicas})
}

// check compares a decision with all that happened, of which the controller remembers only changes.
func (p *plant) check(next int32) {
	if next < p.limits.least || next > p.limits.most {
		p.fail("%d is not within %d and %d", next, p.limits.least, p.limits.most)
	}
	down, up := window(p.limits.down, p.limits.patience), window(p.limits.up, 0)
	for _, w := range p.wanted {
		if w.at.Before(p.memory) {
			continue
		}
		if next < p.replicas && w.at.After(p.now.Add(-down)) && next < min(w.n, p.replicas) && next > p.limits.least {
			p.fail("%d -> %d, but %d were called for %v ago", p.replicas, next, w.n, p.now.Sub(w.at))
		}
		if next > p.replicas && w.at.After(p.now.Add(-up)) && next > max(w.n, p.replicas) && next > p.limits.least {
			p.fail("%d -> %d, but only %d were called for %v ago", p.replicas, next, w.n, p.now.Sub(w.at))
		}
	}
	if next > p.replicas {
		if most := p.reach(p.limits.up, defaultUp, 1); next > most && next > p.limits.least {
			p.fail("%d -> %d is too fast: at most %d", p.replicas, next, most)
		}
	}
	if next < p.replicas {
		if least := p.reach(p.limits.down, defaultDown, -1); next < least && next < p.limits.most {
			p.fail("%d -> %d is too fast: at least %d", p.replicas, next, least)
		}
	}
}

// reach is how far the number may be moved in a direction, from what it was at the beginning of each policy's period.
func (p *plant) reach(r *autoscalingv2.HPAScalingRules, otherwise []autoscalingv2.HPAScalingPolicy, sign int32) int32 {
	policies, choice := rules(r, otherwise)
	var best int32
	for i, policy := range policies {
		start := p.at(p.now.Add(-time.Duration(policy.PeriodSeconds) * time.Second))
		n := start + sign*policy.Value
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			part := float64(start) * float64(policy.Value) / 100
			n = start + sign*ceil(part)
		}
		further := sign*n > sign*best
		if i == 0 || (choice == autoscalingv2.MinChangePolicySelect) != further {
			best = n
		}
	}
	if sign*best < sign*p.replicas {
		return p.replicas
	}
	return best
}

// at is the number of replicas at a time, as far back as the controller remembers.
func (p *plant) at(then time.Time) int32 {
	if then.Before(p.memory) {
		then = p.memory
	}
	n := p.replicas
	for i := len(p.history) - 1; i >= 0; i-- {
		n = p.history[i].n
		if !p.history[i].at.After(then) {
			break
		}
	}
	return n
}

// TestModel drives the decision through a load that jumps, pods that start late, caches that lag, samples that do not come, answers that
// are lost, and a controller that is killed. It never leaves the bounds, never moves faster than its policies or against its windows, never
// away from what the use calls for; and under a load that stays it comes to rest where the use is right.
func TestModel(t *testing.T) {
	for seed := range model.Seeds() {
		p := newPlant(t, seed)
		for range 300 {
			p.step(false)
			if p.IntN(40) == 0 {
				p.log = append(p.log, "the controller is killed")
				p.past, p.memory, p.wanted = &past{}, p.now, nil
				p.history = nil
			}
			p.history = append(recent(p.history, p.now.Add(-far)), event{p.now, p.replicas})
			p.pass(false)
		}
		still := 0
		for range 2000 {
			before := p.replicas
			p.step(true)
			p.history = append(recent(p.history, p.now.Add(-far)), event{p.now, p.replicas})
			p.pass(true)
			if still++; p.replicas != before {
				still = 0
			}
			if still == 100 { // longer than any window
				break
			}
		}
		if still < 100 {
			p.fail("the load stays, and the number does not come to rest")
		}
		used := float64(p.load) / float64(p.replicas) / asks * 100 / goalOf
		if used > 1.1+0.02 && p.replicas < p.limits.most || used < 0.9-0.02 && p.replicas > p.limits.least && ceil(used*float64(p.replicas)) < p.replicas {
			p.fail("at rest with %d pods, each of which uses %.2f of what it should", p.replicas, used)
		}
	}
}
