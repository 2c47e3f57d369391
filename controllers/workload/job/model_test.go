package job

import (
	"strconv"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/podstate"
	"hardway/controllers/workload/model"
)

func newJob(parallelism, completions, backoff int32, indexed bool) *batchv1.Job {
	mode := batchv1.NonIndexedCompletion
	if indexed {
		mode = batchv1.IndexedCompletion
	}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "work", UID: model.Owner, ResourceVersion: "1"},
		Spec: batchv1.JobSpec{
			Parallelism: &parallelism, Completions: &completions, BackoffLimit: &backoff, CompletionMode: &mode,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever}},
		},
	}
}

// run is a Job in the model: the server's Job, the cached one, and what was counted.
type run struct {
	*model.World
	t               *testing.T
	seed            uint64
	truth, cached   *batchv1.Job
	written         int // version of our last status, until the controller is killed
	version         int
	succeeded, lost map[types.UID]bool // pods that were let go because they are counted
}

func (r *run) pass() {
	if v, _ := strconv.Atoi(r.cached.ResourceVersion); v < r.written {
		return
	}
	all, living, unseen := r.View()
	p := makePlan(facts{job: r.cached, pods: all, gone: hidden(all, living), unseen: unseen, now: r.Now})
	for _, pod := range p.strip {
		if !r.Change(pod, untrack) {
			return
		}
	}
	for _, b := range p.create {
		r.Create(newPod(r.cached, b), strconv.Itoa(b.index))
	}
	for _, pod := range append(p.stop, p.strip...) {
		r.Remove(pod)
	}
	if !r.Write() || r.cached.ResourceVersion != r.truth.ResourceVersion {
		return // killed, or a conflict
	}
	r.store(p.status)
	for _, pod := range p.release {
		counted := tracked(r.at(pod)) && !over(r.cached)
		if r.Change(pod, untrack) && counted {
			r.tally(pod)
		}
	}
}

func (r *run) at(pod *corev1.Pod) *corev1.Pod {
	if have := r.Truth[pod.Name]; have != nil {
		return have
	}
	return &corev1.Pod{}
}

func untrack(pod *corev1.Pod) { pod.Finalizers = nil }

func (r *run) store(status batchv1.JobStatus) {
	if over(r.truth) {
		return
	}
	r.version++
	r.truth = r.truth.DeepCopy()
	r.truth.Status, r.truth.ResourceVersion = status, strconv.Itoa(r.version)
	r.written = r.version
}

func (r *run) tally(pod *corev1.Pod) {
	if r.succeeded[pod.UID] || r.lost[pod.UID] {
		r.t.Fatalf("seed %d: %s is counted twice\n%v", r.seed, pod.Name, r.Tail())
	}
	if pod.Status.Phase == corev1.PodSucceeded {
		r.succeeded[pod.UID] = true
	} else {
		r.lost[pod.UID] = true
	}
}

// TestModel drives the plan through lagging caches, lost answers, conflicts and kills between writes. Never do more pods
// run than allowed; every pod is counted exactly once; and every Job ends.
func TestModel(t *testing.T) {
	for seed := range model.Seeds() {
		w := model.New(seed)
		w.Ends, w.Finish = 20, true
		indexed := w.IntN(2) == 0
		job := newJob(int32(1+w.IntN(4)), int32(1+w.IntN(8)), int32(w.IntN(30)), indexed)
		if indexed && w.IntN(2) == 0 {
			job.Spec.BackoffLimitPerIndex = new(int32(w.IntN(3)))
			*job.Spec.BackoffLimit = 1 << 30
		}
		r := &run{World: w, t: t, seed: seed, truth: job, cached: job, version: 1, succeeded: map[types.UID]bool{}, lost: map[types.UID]bool{}}
		for step := range 3000 {
			w.Step()
			if step%100 == 50 && w.IntN(4) == 0 && !over(r.truth) {
				r.version++
				r.truth = r.truth.DeepCopy()
				r.truth.Spec.Suspend = new(r.truth.Spec.Suspend == nil || !*r.truth.Spec.Suspend)
				r.truth.ResourceVersion = strconv.Itoa(r.version)
			}
			if w.IntN(3) == 0 {
				r.cached = r.truth
			}
			if w.Pass(r.pass) {
				r.cached, r.written = r.truth, 0
			}
			if n := len(running(w)); n > int(*job.Spec.Parallelism) {
				t.Fatalf("seed %d, step %d: %d pods run, at most %d may\n%v", seed, step, n, *job.Spec.Parallelism, w.Tail())
			}
			if over(r.truth) && r.cached == r.truth {
				break
			}
		}
		r.finish()
	}
}

// running are the pods that work: tracked ones; one that was let go without counting is on its way out.
func running(w *model.World) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range w.Living() {
		if tracked(pod) && podstate.Active(pod) {
			out = append(out, pod)
		}
	}
	return out
}

func (r *run) finish() {
	t, s, job := r.t, r.truth.Status, r.truth
	if !over(job) {
		t.Fatalf("seed %d: it does not end: %+v\n%v", r.seed, s, r.Tail())
	}
	complete := find(&s, batchv1.JobComplete) != nil
	indexed := *job.Spec.CompletionMode == batchv1.IndexedCompletion
	if complete && s.Succeeded < *job.Spec.Completions {
		t.Fatalf("seed %d: complete with %d of %d\n%v", r.seed, s.Succeeded, *job.Spec.Completions, r.Tail())
	}
	if !indexed && int(s.Succeeded) != len(r.succeeded) {
		t.Fatalf("seed %d: says %d succeeded, they are %d\n%v", r.seed, s.Succeeded, len(r.succeeded), r.Tail())
	}
	if indexed && int(s.Succeeded) != len(parseIndexes(s.CompletedIndexes, int(*job.Spec.Completions))) {
		t.Fatalf("seed %d: %d succeeded, indexes %s\n%v", r.seed, s.Succeeded, s.CompletedIndexes, r.Tail())
	}
	if int(s.Failed) != len(r.lost) {
		t.Fatalf("seed %d: says %d failed, they are %d\n%v", r.seed, s.Failed, len(r.lost), r.Tail())
	}
	if n := len(running(r.World)); n > 0 {
		t.Fatalf("seed %d: it is over and %d pods run\n%v", r.seed, n, r.Tail())
	}
}
