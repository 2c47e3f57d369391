package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// MergeTolerations returns the tolerations of two lists, without those that another of them covers.
func MergeTolerations(a, b []corev1.Toleration) []corev1.Toleration {
	all := slices.Concat(a, b)
	var out []corev1.Toleration
	for i, t := range all {
		covered := slices.ContainsFunc(out, func(o corev1.Toleration) bool { return Covers(&o, &t) }) ||
			slices.ContainsFunc(all[i+1:], func(o corev1.Toleration) bool {
				return Covers(&o, &t) && !equality.Semantic.DeepEqual(o, t)
			})
		if !covered {
			out = append(out, t)
		}
	}
	return out
}

// Covers says whether a toleration tolerates everything that another does.
func Covers(wide, narrow *corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(wide, narrow) {
		return true
	}
	exists := wide.Operator == corev1.TolerationOpExists
	switch {
	case wide.Key != narrow.Key && !(wide.Key == "" && exists),
		wide.Effect != narrow.Effect && wide.Effect != "":
		return false
	case wide.Effect == corev1.TaintEffectNoExecute && wide.TolerationSeconds != nil:
		if narrow.TolerationSeconds == nil || *wide.TolerationSeconds < *narrow.TolerationSeconds {
			return false
		}
	}
	equal := func(t *corev1.Toleration) bool { return t.Operator == corev1.TolerationOpEqual || t.Operator == "" }
	return exists || equal(wide) && equal(narrow) && wide.Value == narrow.Value
}
