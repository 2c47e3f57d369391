package quota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func amounts(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func pod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}}
	change(p)
	return p
}

func TestUsage(t *testing.T) {
	class, grace := "fast", int64(5)
	for name, c := range map[string]struct {
		plural string
		obj    runtime.Object
		want   string
	}{
		"config map":  {"configmaps", &corev1.ConfigMap{}, "configmaps=1,count/configmaps=1"},
		"other kind":  {"deployments.apps", &metav1.PartialObjectMetadata{}, "count/deployments.apps=1"},
		"best effort": {"pods", pod(func(*corev1.Pod) {}), "count/pods=1,pods=1"},
		"requests": {"pods", pod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1", "memory", "1Gi", "example.com/gpu", "2")
			p.Spec.Containers[1].Resources.Requests = amounts("cpu", "500m")
			p.Spec.Containers[1].Resources.Limits = amounts("cpu", "2")
		}), "count/pods=1,cpu=1500m,limits.cpu=2,memory=1Gi,pods=1,requests.cpu=1500m,requests.example.com/gpu=2,requests.memory=1Gi"},
		"done": {"pods", pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), "count/pods=1"},
		"overdue": {"pods", pod(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-6 * time.Second)}, &grace
		}), "count/pods=1"},
		"being deleted": {"pods", pod(func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-4 * time.Second)}, &grace
		}), "count/pods=1,pods=1"},
		"cluster IP": {"services", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: make([]corev1.ServicePort, 2)}},
			"count/services=1,services.loadbalancers=0,services.nodeports=0,services=1"},
		"load balancer": {"services", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: make([]corev1.ServicePort, 2)}},
			"count/services=1,services.loadbalancers=1,services.nodeports=2,services=1"},
		"claim": {"persistentvolumeclaims", &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{Requests: amounts("storage", "3Gi")},
		}}, "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1," +
			"fast.storageclass.storage.k8s.io/requests.storage=3Gi,persistentvolumeclaims=1,requests.storage=3Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Text(Usage(schema.ParseGroupResource(c.plural), c.obj, now)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	deadline := int64(1)
	ends := pod(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &deadline })
	important := pod(func(p *corev1.Pod) {
		p.Spec.PriorityClassName = "high"
		p.Spec.Containers[0].Resources.Limits = amounts("cpu", "1")
	})
	abroad := pod(func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
			{PodAffinityTerm: corev1.PodAffinityTerm{Namespaces: []string{"x"}}}}}}
	})
	scoped := func(s ...corev1.ResourceQuotaScope) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{Scopes: s}
	}
	selects := func(op corev1.ScopeSelectorOperator, values ...string) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
			{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: op, Values: values}}}}
	}
	for name, c := range map[string]struct {
		spec corev1.ResourceQuotaSpec
		obj  runtime.Object
		want bool
	}{
		"no scope":              {corev1.ResourceQuotaSpec{}, &corev1.Service{}, true},
		"pods only":             {scoped(corev1.ResourceQuotaScopeNotTerminating), &corev1.Service{}, false},
		"terminating":           {scoped(corev1.ResourceQuotaScopeTerminating), ends, true},
		"not terminating":       {scoped(corev1.ResourceQuotaScopeNotTerminating), ends, false},
		"all scopes must apply": {scoped(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotBestEffort), ends, false},
		"best effort":           {scoped(corev1.ResourceQuotaScopeBestEffort), ends, true},
		"not best effort":       {scoped(corev1.ResourceQuotaScopeNotBestEffort), important, true},
		"class":                 {selects(corev1.ScopeSelectorOpIn, "low", "high"), important, true},
		"another class":         {selects(corev1.ScopeSelectorOpNotIn, "low"), important, true},
		"no class":              {selects(corev1.ScopeSelectorOpExists), ends, false},
		"abroad":                {scoped(corev1.ResourceQuotaScopeCrossNamespacePodAffinity), abroad, true},
		"at home":               {scoped(corev1.ResourceQuotaScopeCrossNamespacePodAffinity), ends, false},
	} {
		if got := Matches(&corev1.ResourceQuota{Spec: c.spec}, c.obj); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestUnsaid(t *testing.T) {
	p := pod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1")
		p.Spec.Containers[0].Resources.Limits = amounts("cpu", "1")
	})
	if err := Unsaid(p, amounts("pods", "1")); err != nil {
		t.Error(err)
	}
	err := Unsaid(p, amounts("cpu", "1", "limits.memory", "1"))
	if want := "must specify cpu for: b; limits.memory for: a,b"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
