package quota

import (
	"iter"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/shared/quota"
)

var (
	pods     = schema.GroupResource{Resource: "pods"}
	services = schema.GroupResource{Resource: "services"}
	claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}
)

// kindOf is the kind whose objects take the resource of that name. What is not known otherwise is taken by pods.
func kindOf(name corev1.ResourceName) schema.GroupResource {
	text := string(name)
	if counted, ok := strings.CutPrefix(text, "count/"); ok {
		return schema.ParseGroupResource(counted)
	}
	switch {
	case strings.HasPrefix(text, "services."):
		return services
	case name == corev1.ResourceRequestsStorage, strings.Contains(text, ".storageclass.storage.k8s.io/"):
		return claims
	}
	switch text {
	case "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services":
		return schema.GroupResource{Resource: text}
	}
	return pods
}

// kindsOf are the kinds that a quota counts.
func kindsOf(hard corev1.ResourceList) map[schema.GroupResource]bool {
	kinds := map[schema.GroupResource]bool{}
	for name := range hard {
		kinds[kindOf(name)] = true
	}
	return kinds
}

// count adds up what the objects of a quota's namespace take, by kind. What is limited in a kind that objects does not
// have is left out: nobody knows. until is when the sum changes by itself, because a pod that is being deleted is
// overdue; zero: never.
func count(q *corev1.ResourceQuota, objects map[schema.GroupResource]iter.Seq[runtime.Object], now time.Time) (used corev1.ResourceList, until time.Time) {
	used = corev1.ResourceList{}
	for name, limit := range q.Spec.Hard {
		if _, known := objects[kindOf(name)]; known {
			used[name] = *resource.NewQuantity(0, limit.Format)
		}
	}
	for gr, all := range objects {
		for obj := range all {
			if !quota.Matches(q, obj) {
				continue
			}
			quota.Add(used, quota.Of(quota.Usage(gr, obj, now), used))
			if at := overdue(obj); at.After(now) && (until.IsZero() || at.Before(until)) {
				until = at
			}
		}
	}
	return used, until
}

// overdue is when a pod that is being deleted stops to count, zero for other objects.
func overdue(obj runtime.Object) time.Time {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil {
		return time.Time{}
	}
	return pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
}

// less reports whether something is used less in a than in b.
func less(a, b corev1.ResourceList) bool {
	for name, was := range b {
		if is, ok := a[name]; ok && is.Cmp(was) < 0 {
			return true
		}
	}
	return false
}

// same compares amounts, whichever way they are written.
func same(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		if y, ok := b[name]; !ok || x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}
