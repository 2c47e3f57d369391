package job

import (
	"fmt"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/workload/podset"
)

// birth is a pod that is to be created: of an Indexed Job for an index, with what the pods before it went through.
type birth struct {
	index            int // -1: the Job is not indexed
	counted, ignored int // failures of the index so far
}

const indexVariable = "JOB_COMPLETION_INDEX"

// newPod makes a pod of the Job. Its finalizer keeps it until it has been counted.
func newPod(job *batchv1.Job, b birth) *corev1.Pod {
	stem := job.Name + "-"
	if b.index >= 0 {
		stem += strconv.Itoa(b.index) + "-"
	}
	pod := podset.FromTemplate(job, kind, &job.Spec.Template, stem)
	if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if b.index < 0 {
		return pod
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	number := strconv.Itoa(b.index)
	pod.Labels[batchv1.JobCompletionIndexAnnotation], pod.Annotations[batchv1.JobCompletionIndexAnnotation] = number, number
	if job.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(b.counted)
		if b.ignored > 0 {
			pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(b.ignored)
		}
	}
	pod.Spec.Hostname = job.Name + "-" + number
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			tellIndex(&list[i])
		}
	}
	return pod
}

// tellIndex puts the index into the container's environment, unless something of that name is there.
func tellIndex(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)},
	}})
}
