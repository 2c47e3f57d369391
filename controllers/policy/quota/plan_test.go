package quota

import (
	"iter"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/shared/quota"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func amounts(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func pod(cpu string, change ...func(*corev1.Pod)) runtime.Object {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", cpu)}}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func leaving(after time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(after)}, new(int64(10))
	}
}

func done(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func TestCount(t *testing.T) {
	objects := map[schema.GroupResource]iter.Seq[runtime.Object]{
		pods:                                     slices.Values([]runtime.Object{pod("1"), pod("500m", leaving(-3*time.Second)), pod("2", leaving(-20*time.Second)), pod("4", done)}),
		{Group: "apps", Resource: "deployments"}: slices.Values([]runtime.Object{&metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadata{}}),
		{Resource: "secrets"}:                    slices.Values([]runtime.Object{}),
	}
	for name, c := range map[string]struct {
		spec  corev1.ResourceQuotaSpec
		used  string
		until time.Duration // after now
	}{
		"pods that are done or overdue take nothing": {corev1.ResourceQuotaSpec{Hard: amounts("pods", "9", "requests.cpu", "9")}, "pods=2,requests.cpu=1500m", 7 * time.Second},
		"all objects are counted":                    {corev1.ResourceQuotaSpec{Hard: amounts("count/pods", "9")}, "count/pods=4", 7 * time.Second},
		"other kinds":                                {corev1.ResourceQuotaSpec{Hard: amounts("count/deployments.apps", "1", "secrets", "3")}, "count/deployments.apps=2,secrets=0", 0},
		"what is not served is not known":            {corev1.ResourceQuotaSpec{Hard: amounts("count/things.example.org", "1")}, "", 0},
		"extended resources begin at none":           {corev1.ResourceQuotaSpec{Hard: amounts("requests.example.org/gpu", "1")}, "requests.example.org/gpu=0", 7 * time.Second},
		"scopes leave out": {corev1.ResourceQuotaSpec{
			Hard: amounts("pods", "9"), Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort},
		}, "pods=0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			wanted := map[schema.GroupResource]iter.Seq[runtime.Object]{}
			for gr := range kindsOf(c.spec.Hard) {
				if all, served := objects[gr]; served {
					wanted[gr] = all
				}
			}
			used, until := count(&corev1.ResourceQuota{Spec: c.spec}, wanted, now)
			if got := quota.Text(used); got != c.used {
				t.Errorf("used %q, want %q", got, c.used)
			}
			if (c.until == 0) != until.IsZero() || c.until != 0 && until.Sub(now) != c.until {
				t.Errorf("counts again at %v, want after %v", until, c.until)
			}
		})
	}
}

func TestKindOf(t *testing.T) {
	for name, want := range map[corev1.ResourceName]string{
		"cpu": "pods", "requests.example.org/gpu": "pods", "pods": "pods", "hugepages-2Mi": "pods",
		"services.nodeports": "services", "services": "services", "requests.storage": "persistentvolumeclaims",
		"fast.storageclass.storage.k8s.io/requests.storage": "persistentvolumeclaims",
		"count/jobs.batch": "jobs.batch", "count/pods": "pods", "resourcequotas": "resourcequotas",
	} {
		if got := kindOf(name).String(); got != want {
			t.Errorf("%s is taken by %s, want %s", name, got, want)
		}
	}
}
