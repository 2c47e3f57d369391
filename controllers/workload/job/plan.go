package job

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/podstate"
)

// burst is the most pods that one pass creates, deletes or counts; the rest follows in the next pass.
const burst = 500

// facts are what a plan is made from.
type facts struct {
	job    *batchv1.Job
	pods   []*corev1.Pod     // the Job's, whatever their state
	gone   map[string]bool   // names of pods that were deleted and that the cache still shows as living
	unseen map[string]string // pods that were created and that the cache does not show yet: name to index
	now    time.Time
}

// plan is what has to be done, in this order: pods, status, and then the finalizers of release, which may go only when
// the status that counts those pods is stored.
type plan struct {
	create  []birth
	strip   []*corev1.Pod // deleted without counting: their finalizers go first
	stop    []*corev1.Pod // deleted because the Job is over
	status  batchv1.JobStatus
	release []*corev1.Pod
	again   time.Duration
}

type planner struct {
	facts
	plan
	indexed     bool
	completions int // -1: not said
	uncounted   map[types.UID]bool
	active      []*corev1.Pod // running or waiting to, not on their way out
	terminating int
	fresh       []*corev1.Pod // ended and not yet in any count
	succeeded   int
	failed      int
	done, lost  indexes // indexes that succeeded, that failed for good
}

// makePlan counts what ended, decides whether the Job is over, and if not how many pods have to run.
func makePlan(f facts) plan {
	p := &planner{facts: f, indexed: f.job.Spec.CompletionMode != nil && *f.job.Spec.CompletionMode == batchv1.IndexedCompletion, completions: -1}
	if c := f.job.Spec.Completions; c != nil {
		p.completions = int(*c)
	}
	p.status = *f.job.Status.DeepCopy()
	if over(f.job) || f.job.DeletionTimestamp != nil {
		p.releaseAll()
		return p.plan
	}
	p.sort()
	p.count()
	p.start()
	target := p.target()
	suspended := f.job.Spec.Suspend != nil && *f.job.Spec.Suspend
	switch {
	case target != nil:
		p.stop = p.active
	case suspended:
		p.strip = p.active
	default:
		p.manage()
	}
	p.suspension(suspended, target != nil)
	p.conclude(target)
	return p.plan
}

// over reports whether the Job is complete or has failed.
func over(job *batchv1.Job) bool {
	return find(&job.Status, batchv1.JobComplete) != nil || find(&job.Status, batchv1.JobFailed) != nil
}

// releaseAll lets all pods go: nothing is counted any more.
func (p *planner) releaseAll() {
	for _, pod := range p.pods {
		if tracked(pod) {
			p.release = append(p.release, pod)
		}
	}
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// sort tells running pods from those that ended.
func (p *planner) sort() {
	p.uncounted = map[types.UID]bool{}
	if u := p.status.UncountedTerminatedPods; u != nil {
		for _, uid := range slices.Concat(u.Succeeded, u.Failed) {
			p.uncounted[uid] = true
		}
	}
	for _, pod := range p.pods {
		going := pod.DeletionTimestamp != nil || p.gone[pod.Name]
		switch {
		case !podstate.Terminal(pod) && !going:
			p.active = append(p.active, pod)
			continue
		case !podstate.Terminal(pod):
			p.terminating++
		}
		if tracked(pod) && !p.uncounted[pod.UID] && (p.didSucceed(pod) || p.didFail(pod)) {
			p.fresh = append(p.fresh, pod)
		}
	}
	slices.SortFunc(p.active, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.fresh, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
}

func (p *planner) didSucceed(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded }

// didFail reports whether the pod counts as failed: one that is being deleted does at once, unless it is to be replaced
// only when it has really ended.
func (p *planner) didFail(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	return pod.Status.Phase != corev1.PodSucceeded && pod.DeletionTimestamp != nil && !p.replacesEnded()
}

func (p *planner) replacesEnded() bool {
	r := p.job.Spec.PodReplacementPolicy
	return r != nil && *r == batchv1.Failed || p.job.Spec.PodFailurePolicy != nil
}

// count moves pods whose finalizer is gone from the uncounted into the counters, and enters those that ended into the
// uncounted. A pod of an Indexed Job that succeeded is counted by its index.
func (p *planner) count() {
	held := map[types.UID]bool{}
	for _, pod := range p.pods {
		if tracked(pod) {
			held[pod.UID] = true
		}
	}
	u := batchv1.UncountedTerminatedPods{}
	if have := p.status.UncountedTerminatedPods; have != nil {
		u.Succeeded = settle(have.Succeeded, held, &p.status.Succeeded)
		u.Failed = settle(have.Failed, held, &p.status.Failed)
	}
	if p.indexed {
		p.done = parseIndexes(p.status.CompletedIndexes, p.completions)
		if p.job.Spec.BackoffLimitPerIndex != nil {
			p.lost = indexes{}
			if p.status.FailedIndexes != nil {
				p.lost = parseIndexes(*p.status.FailedIndexes, p.completions)
			}
		}
	}
	for _, pod := range p.fresh {
		if len(u.Succeeded)+len(u.Failed) >= burst {
			p.again = time.Second
			break
		}
		p.enter(pod, &u)
	}
	p.lose()
	for _, pod := range p.pods {
		if tracked(pod) && p.uncounted[pod.UID] && !p.awaited(pod) {
			p.release = append(p.release, pod)
		}
	}
	p.status.UncountedTerminatedPods = &u
	p.succeeded, p.failed = int(p.status.Succeeded)+len(u.Succeeded), int(p.status.Failed)+len(u.Failed)
	if p.indexed {
		p.succeeded = len(p.done)
		p.status.Succeeded, p.status.CompletedIndexes = int32(len(p.done)), p.done.String()
		if p.lost != nil {
			p.status.FailedIndexes = new(p.lost.String())
		}
	}
}

// settle counts the uids whose pods have lost their finalizer and returns the others.
func settle(uids []types.UID, held map[types.UID]bool, counter *int32) []types.UID {
	var left []types.UID
	for _, uid := range uids {
		if held[uid] {
			left = append(left, uid)
		} else {
			*counter++
		}
	}
	return left
}

// enter records one pod that ended.
func (p *planner) enter(pod *corev1.Pod, u *batchv1.UncountedTerminatedPods) {
	index := indexOf(pod)
	switch {
	case p.didSucceed(pod) && p.indexed:
		if index >= 0 && index < p.completions && !p.lost[index] {
			p.done[index] = true
		}
		p.release = append(p.release, pod)
	case p.didSucceed(pod):
		u.Succeeded = append(u.Succeeded, pod.UID)
		p.release = append(p.release, pod)
	default:
		if v := judge(p.job.Spec.PodFailurePolicy, pod); v.counts {
			u.Failed = append(u.Failed, pod.UID)
		}
		if !p.awaited(pod) {
			p.release = append(p.release, pod)
		}
	}
}

// lose finds the indexes that failed for good.
func (p *planner) lose() {
	if p.lost == nil {
		return
	}
	for _, pod := range p.pods {
		index := indexOf(pod)
		if !p.didFail(pod) || !tracked(pod) || index < 0 || index >= p.completions || p.done[index] {
			continue
		}
		v := judge(p.job.Spec.PodFailurePolicy, pod)
		before, _ := failuresBefore(pod)
		if v.failIndex || v.counts && before >= int(*p.job.Spec.BackoffLimitPerIndex) {
			p.lost[index] = true
		}
	}
	p.release = slices.DeleteFunc(p.release, func(pod *corev1.Pod) bool { return p.awaited(pod) })
	for _, pod := range p.fresh { // what was held back for its index may go when the index is lost
		if p.didFail(pod) && p.lost[indexOf(pod)] && !slices.Contains(p.release, pod) {
			p.release = append(p.release, pod)
		}
	}
}

// awaited reports whether a failed pod must stay because the next pod of its index has to be told how many failed
// before it.
func (p *planner) awaited(pod *corev1.Pod) bool {
	index := indexOf(pod)
	if p.lost == nil || index < 0 || !p.didFail(pod) || p.done[index] || p.lost[index] || find(&p.status, batchv1.JobFailureTarget) != nil {
		return false
	}
	counted, ignored := failuresBefore(pod)
	for _, other := range p.pods {
		if other != pod && indexOf(other) == index {
			c, i := failuresBefore(other)
			if c+i > counted+ignored {
				return false
			}
		}
	}
	return true
}

// start sets the time when the Job began to run.
func (p *planner) start() {
	if p.status.StartTime == nil && (p.job.Spec.Suspend == nil || !*p.job.Spec.Suspend) {
		p.status.StartTime = new(metav1.NewTime(p.now))
	}
}

// target decides whether the Job is over, and how: nil while it goes on. What was decided in an earlier pass stands.
func (p *planner) target() *batchv1.JobCondition {
	for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if c := find(&p.status, kind); c != nil {
			return c
		}
	}
	if why := p.policyFailure(); why != "" {
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonPodFailurePolicy, why)
	}
	if p.failed > int(*p.job.Spec.BackoffLimit) || p.restartedTooOften() {
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if limit := p.job.Spec.ActiveDeadlineSeconds; limit != nil && p.status.StartTime != nil {
		left := p.status.StartTime.Add(time.Duration(*limit) * time.Second).Sub(p.now)
		if left <= 0 && (p.job.Spec.Suspend == nil || !*p.job.Spec.Suspend) {
			return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		p.wake(left)
	}
	if c := p.indexTarget(); c != nil {
		return c
	}
	if p.reached() {
		return p.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
	return nil
}

// policyFailure says why the failure policy ends the Job.
func (p *planner) policyFailure() string {
	for _, pod := range p.pods {
		if pod.Status.Phase == corev1.PodFailed && p.job.Spec.PodFailurePolicy != nil {
			if v := judge(p.job.Spec.PodFailurePolicy, pod); v.failJob != "" {
				return v.failJob
			}
		}
	}
	return ""
}

// restartedTooOften counts restarts inside of pods, where containers are started again.
func (p *planner) restartedTooOften() bool {
	if p.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	total := int32(0)
	for _, pod := range p.pods {
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodPending {
			continue
		}
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			total += s.RestartCount
		}
	}
	limit := *p.job.Spec.BackoffLimit
	return limit == 0 && total > 0 || limit > 0 && total >= limit
}

// indexTarget judges by the indexes.
func (p *planner) indexTarget() *batchv1.JobCondition {
	if !p.indexed {
		return nil
	}
	limit := p.job.Spec.MaxFailedIndexes
	switch {
	case limit != nil && len(p.lost) > int(*limit):
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	case len(p.lost) > 0 && len(p.lost)+len(p.done) >= p.completions:
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	}
	if rule, ok := succeeds(p.job.Spec.SuccessPolicy, p.done, p.completions); ok {
		return p.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", rule))
	}
	return nil
}

// reached reports whether enough pods succeeded: as many as asked for, or without a number one and no other runs.
func (p *planner) reached() bool {
	if p.completions >= 0 {
		return p.succeeded >= p.completions
	}
	return p.succeeded > 0 && len(p.active)+len(p.unseen) == 0
}

// manage has as many pods running as can be of use.
func (p *planner) manage() {
	p.dropUseless()
	running := len(p.active) - len(p.strip) + len(p.unseen)
	want := p.wanted(running)
	if surplus := running - want; surplus > 0 {
		p.stripSome(min(surplus, burst))
		return
	}
	if len(p.strip) > 0 {
		return
	}
	missing := want - running
	if p.replacesEnded() {
		missing -= p.terminating
	}
	if missing <= 0 {
		return
	}
	missing = min(missing, burst)
	if p.indexed {
		p.createIndexes(missing)
		return
	}
	if wait := p.pause(p.pods); wait > 0 {
		p.wake(wait)
		return
	}
	for range missing {
		p.create = append(p.create, birth{index: -1})
	}
}

// wanted is how many pods should run.
func (p *planner) wanted(running int) int {
	parallelism := int(*p.job.Spec.Parallelism)
	if p.completions < 0 {
		if p.succeeded > 0 {
			return running
		}
		return parallelism
	}
	return max(0, min(p.completions-p.succeeded-len(p.lost), parallelism))
}

// dropUseless takes away pods of indexes that are settled, out of range or worked on twice.
func (p *planner) dropUseless() {
	if !p.indexed {
		return
	}
	taken := indexes{}
	for _, pod := range p.active {
		index := indexOf(pod)
		if index < 0 || index >= p.completions || taken[index] || p.done[index] || p.lost[index] {
			p.strip = append(p.strip, pod)
			continue
		}
		taken[index] = true
	}
}

// stripSome takes away n pods: those that were useless anyway, then those whose loss costs least.
func (p *planner) stripSome(n int) {
	var rest []*corev1.Pod
	for _, pod := range p.active {
		if !slices.Contains(p.strip, pod) {
			rest = append(rest, pod)
		}
	}
	if p.indexed { // highest indexes first
		slices.SortFunc(rest, func(a, b *corev1.Pod) int { return cmp.Compare(indexOf(b), indexOf(a)) })
		p.strip = append(p.strip, rest[:min(n, len(rest))]...)
		return
	}
	p.strip = append(p.strip, podstate.FirstToGo(rest, rest, min(n, len(rest)), p.now)...)
}

// createIndexes plans pods for the lowest indexes that nobody works on.
func (p *planner) createIndexes(n int) {
	busy := indexes{}
	for _, pod := range p.active {
		busy[indexOf(pod)] = true
	}
	for _, note := range p.unseen {
		if index, err := strconv.Atoi(note); err == nil {
			busy[index] = true
		}
	}
	if p.replacesEnded() {
		for _, pod := range p.pods {
			if !podstate.Terminal(pod) {
				busy[indexOf(pod)] = true
			}
		}
	}
	ended := map[int][]*corev1.Pod{}
	for _, pod := range p.pods {
		if !p.gone[pod.Name] || podstate.Terminal(pod) {
			ended[indexOf(pod)] = append(ended[indexOf(pod)], pod)
		}
	}
	if p.lost == nil {
		if wait := p.pause(p.pods); wait > 0 {
			p.wake(wait)
			return
		}
	}
	for index := 0; index < p.completions && n > 0; index++ {
		if busy[index] || p.done[index] || p.lost[index] {
			continue
		}
		n--
		b := birth{index: index}
		if p.lost != nil {
			var wait time.Duration
			if b, wait = p.after(index, ended[index]); wait > 0 {
				p.wake(wait)
				continue
			}
		}
		p.create = append(p.create, b)
	}
}

// after is the next pod of an index whose pods failed before, and how long it has to wait.
func (p *planner) after(index int, pods []*corev1.Pod) (birth, time.Duration) {
	b := birth{index: index}
	var wait time.Duration
	most := -1
	for _, pod := range pods {
		if !p.didFail(pod) {
			continue
		}
		counted, ignored := failuresBefore(pod)
		if counted+ignored <= most {
			continue
		}
		most = counted + ignored
		b.counted, b.ignored = counted, ignored
		if judge(p.job.Spec.PodFailurePolicy, pod).counts {
			b.counted++
		} else {
			b.ignored++
		}
		wait = ended(pod).Add(pauseAfter(b.counted + b.ignored)).Sub(p.now)
	}
	return b, wait
}

// pause is how long to wait before another pod is made: the more pods failed since the last one succeeded, the longer.
func (p *planner) pause(pods []*corev1.Pod) time.Duration {
	var success, last time.Time
	for _, pod := range pods {
		if at := ended(pod); p.didSucceed(pod) && at.After(success) {
			success = at
		}
	}
	failures := 0
	for _, pod := range pods {
		if at := ended(pod); p.didFail(pod) && at.After(success) {
			failures++
			if at.After(last) {
				last = at
			}
		}
	}
	return last.Add(pauseAfter(failures)).Sub(p.now)
}

// wake asks for another look after a while, when that is sooner than what was asked for.
func (p *planner) wake(after time.Duration) {
	if after > 0 && (p.again == 0 || after < p.again) {
		p.again = after
	}
}
