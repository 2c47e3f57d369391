package deployment

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// replicas is the number of pods that a ReplicaSet asks for; 1 when it says nothing.
func replicas(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

// desired is the number of pods that a Deployment asks for; 1 when it says nothing.
func desired(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

func rolling(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType
}

// limits turns maxSurge and maxUnavailable into pods: percentages of the desired number, surge rounded up,
// unavailability down. Were both 0 nothing could ever move, so one pod may then be unavailable. A strategy other than
// RollingUpdate has neither.
func limits(d *appsv1.Deployment) (surge, unavailable int32, err error) {
	if !rolling(d) {
		return 0, 0, nil
	}
	var maxSurge, maxUnavailable *intstr.IntOrString
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
		maxSurge, maxUnavailable = ru.MaxSurge, ru.MaxUnavailable
	}
	n := int(desired(d))
	s, err := scaled(maxSurge, n, true)
	if err != nil {
		return 0, 0, fmt.Errorf("maxSurge: %w", err)
	}
	u, err := scaled(maxUnavailable, n, false)
	if err != nil {
		return 0, 0, fmt.Errorf("maxUnavailable: %w", err)
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(s), int32(min(u, n)), nil
}

func scaled(v *intstr.IntOrString, n int, up bool) (int, error) {
	if v == nil {
		return 0, nil
	}
	return intstr.GetScaledValueFromIntOrPercent(v, n, up)
}

// sameTemplate compares pod templates without the hash label that the controller adds.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := *a, *b
	x.Labels, y.Labels = withoutHash(a.Labels), withoutHash(b.Labels)
	return equality.Semantic.DeepEqual(&x, &y)
}

func withoutHash(in map[string]string) map[string]string {
	if _, ok := in[appsv1.DefaultDeploymentUniqueLabelKey]; !ok {
		return in
	}
	out := maps.Clone(in)
	delete(out, appsv1.DefaultDeploymentUniqueLabelKey)
	return out
}

// current returns the ReplicaSet that has the Deployment's template, the oldest when there are several, or nil.
func current(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range slices.SortedFunc(slices.Values(sets), byAge) {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

// byAge puts older ReplicaSets first.
func byAge(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// byRevision puts lower revisions first.
func byRevision(a, b *appsv1.ReplicaSet) int {
	x, errX := revision(a)
	y, errY := revision(b)
	if errX != nil || errY != nil || x == y {
		return byAge(a, b)
	}
	return cmp.Compare(x, y)
}

// revision reads the revision annotation, 0 when there is none.
func revision(rs *appsv1.ReplicaSet) (int64, error) {
	text, ok := rs.Annotations[RevisionAnnotation]
	if !ok {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

func maxRevision(sets []*appsv1.ReplicaSet) int64 {
	highest := int64(0)
	for _, rs := range sets {
		if v, err := revision(rs); err == nil {
			highest = max(highest, v)
		}
	}
	return highest
}

// active returns the ReplicaSets that ask for pods.
func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range sets {
		if rs != nil && replicas(rs) > 0 {
			out = append(out, rs)
		}
	}
	return out
}

// sum adds a number over ReplicaSets.
func sum(sets []*appsv1.ReplicaSet, of func(*appsv1.ReplicaSet) int32) int32 {
	total := int32(0)
	for _, rs := range sets {
		total += of(rs)
	}
	return total
}

func available(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas }

// hasDeadline reports whether progress is watched at all.
func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

// complete reports whether everything that the spec asks for is there and nothing else is.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	n := desired(d)
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}
