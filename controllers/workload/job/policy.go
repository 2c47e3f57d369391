package job

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is what the failure policy says about a failed pod.
type verdict struct {
	counts    bool   // towards the limits
	failIndex bool   // the pod's index has failed for good
	failJob   string // why the Job has failed for good; "" when it has not
}

// judge applies the pod failure policy: the first rule that matches decides. Without one a failure counts.
func judge(policy *batchv1.PodFailurePolicy, pod *corev1.Pod) verdict {
	if policy == nil {
		return verdict{counts: true}
	}
	for i, rule := range policy.Rules {
		what, ok := matchRule(rule, pod)
		if !ok {
			continue
		}
		switch rule.Action {
		case batchv1.PodFailurePolicyActionIgnore:
			return verdict{}
		case batchv1.PodFailurePolicyActionFailIndex:
			return verdict{counts: true, failIndex: true}
		case batchv1.PodFailurePolicyActionCount:
			return verdict{counts: true}
		case batchv1.PodFailurePolicyActionFailJob:
			return verdict{counts: true, failJob: fmt.Sprintf("%s matching %s rule at index %d", what, rule.Action, i)}
		}
	}
	return verdict{counts: true}
}

// matchRule says in words what of the pod matches the rule.
func matchRule(rule batchv1.PodFailurePolicyRule, pod *corev1.Pod) (string, bool) {
	if rule.OnExitCodes != nil {
		for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
			if code, ok := matchExit(rule.OnExitCodes, s); ok {
				return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", s.Name, pod.Namespace, pod.Name, code), true
			}
		}
		return "", false
	}
	for _, c := range pod.Status.Conditions {
		for _, want := range rule.OnPodConditions {
			if c.Type == want.Type && c.Status == want.Status {
				return fmt.Sprintf("Pod %s/%s has condition %s", pod.Namespace, pod.Name, c.Type), true
			}
		}
	}
	return "", false
}

func matchExit(rule *batchv1.PodFailurePolicyOnExitCodesRequirement, s corev1.ContainerStatus) (int32, bool) {
	if s.State.Terminated == nil || s.State.Terminated.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != s.Name {
		return 0, false
	}
	in := slices.Contains(rule.Values, s.State.Terminated.ExitCode)
	return s.State.Terminated.ExitCode, in == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn)
}

// succeeds applies the success policy to the indexes that succeeded: which rule is met.
func succeeds(policy *batchv1.SuccessPolicy, done indexes, completions int) (rule int, ok bool) {
	if policy == nil || len(done) == 0 {
		return 0, false
	}
	for i, r := range policy.Rules {
		among := done
		all := -1
		if r.SucceededIndexes != nil {
			wanted := parseIndexes(*r.SucceededIndexes, completions)
			among, all = indexes{}, len(wanted)
			for n := range wanted {
				if done[n] {
					among[n] = true
				}
			}
			if all == 0 {
				continue
			}
		}
		if len(among) == all || r.SucceededCount != nil && len(among) >= int(*r.SucceededCount) {
			return i, true
		}
	}
	return 0, false
}

// Pauses after failures: doubling from the first to the last.
const (
	firstPause = 10 * time.Second
	lastPause  = 10 * time.Minute
)

// pauseAfter is the time that has to pass after the n-th failure in a row.
func pauseAfter(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	pause := firstPause
	for range failures - 1 {
		if pause >= lastPause {
			break
		}
		pause *= 2
	}
	return min(pause, lastPause)
}

// ended is when a pod ended, as well as it can be told.
func ended(pod *corev1.Pod) time.Time {
	var last time.Time
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	if !last.IsZero() {
		return last
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.LastTransitionTime.After(last) {
			last = c.LastTransitionTime.Time
		}
	}
	if !last.IsZero() {
		return last
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Time
	}
	return pod.CreationTimestamp.Time
}

func indexOf(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// failuresBefore is how many pods of the same index failed before this one, those that count and those that do not.
func failuresBefore(pod *corev1.Pod) (counted, ignored int) {
	counted, _ = strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
	ignored, _ = strconv.Atoi(pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation])
	return counted, ignored
}
