package resourcequota

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func amounts(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

// book is a namespace's quotas.
type book struct {
	mu     sync.Mutex
	quotas map[string]*corev1.ResourceQuota
}

func newBook(quotas ...*corev1.ResourceQuota) *book {
	b := &book{quotas: map[string]*corev1.ResourceQuota{}}
	for _, q := range quotas {
		b.quotas[q.Name] = q
	}
	return b
}

func (b *book) plugin() *Plugin {
	return &Plugin{
		Quotas: func(context.Context, string) ([]*corev1.ResourceQuota, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			var out []*corev1.ResourceQuota
			for _, q := range b.quotas {
				out = append(out, q.DeepCopy())
			}
			return out, nil
		},
		Charge: func(_ context.Context, _, name string, change func(*corev1.ResourceQuota) error) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			now := b.quotas[name].DeepCopy()
			if err := change(now); err != nil {
				return err
			}
			b.quotas[name] = now
			return nil
		},
	}
}

func limited(name string, hard, used corev1.ResourceList) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Status:     corev1.ResourceQuotaStatus{Hard: hard, Used: used},
	}
}

func create(cpu string) *admission.Attributes {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}}
	if cpu != "" {
		pod.Spec.Containers[0].Resources.Requests = amounts("cpu", cpu)
	}
	return &admission.Attributes{Operation: admission.Create, Kind: core.Pod, Namespace: "ns", Name: "p", Object: pod}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		quota *corev1.ResourceQuota
		cpu   string
		want  string
	}{
		"fits":        {limited("q", amounts("pods", "2", "cpu", "1"), amounts("pods", "1", "cpu", "500m")), "500m", ""},
		"no room":     {limited("q", amounts("pods", "2", "cpu", "1"), amounts("pods", "1", "cpu", "600m")), "500m", `pods "p" is forbidden: exceeded quota: q, requested: cpu=500m, used: cpu=600m, limited: cpu=1`},
		"silent":      {limited("q", amounts("cpu", "1"), amounts("cpu", "0")), "", `pods "p" is forbidden: failed quota: q: must specify cpu for: a`},
		"not known":   {limited("q", amounts("pods", "1"), nil), "", `pods "p" is forbidden: status unknown for quota: q, resources: pods`},
		"not counted": {limited("q", nil, nil), "", ""},
		"other kinds": {limited("q", amounts("services", "0"), amounts("services", "0")), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := newBook(c.quota).plugin().Validate(t.Context(), create(c.cpu)); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestNeverExceeded: many creates at once.
func TestNeverExceeded(t *testing.T) {
	b := newBook(limited("a", amounts("pods", "37"), amounts("pods", "0")), limited("b", amounts("count/pods", "50"), amounts("count/pods", "0")))
	p := b.plugin()
	var in, out atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			switch err := p.Validate(t.Context(), create("")); {
			case err == nil:
				in.Add(1)
			case apierrors.IsForbidden(err):
				out.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := fmt.Sprintf("%d in, %d refused", in.Load(), out.Load())
	if got != "37 in, 63 refused" {
		t.Error(got)
	}
	if used := b.quotas["a"].Status.Used["pods"]; used.Value() != 37 {
		t.Errorf("used %v", used.String())
	}
}

// TestGrowth: a change is charged for what it adds.
func TestGrowth(t *testing.T) {
	b := newBook(limited("q", amounts("services.nodeports", "2"), amounts("services.nodeports", "1")))
	svc := func(kind corev1.ServiceType, ports int) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: corev1.ServiceSpec{Type: kind, Ports: make([]corev1.ServicePort, ports)}}
	}
	update := func(old, now *corev1.Service) error {
		return b.plugin().Validate(t.Context(), &admission.Attributes{
			Operation: admission.Update, Kind: core.Service, Namespace: "ns", Name: "s", Object: now, Old: old,
		})
	}
	if err := update(svc(corev1.ServiceTypeClusterIP, 1), svc(corev1.ServiceTypeNodePort, 1)); err != nil {
		t.Fatal(err)
	}
	if used := b.quotas["q"].Status.Used["services.nodeports"]; used.Value() != 2 {
		t.Errorf("used %v", used.String())
	}
	if err := update(svc(corev1.ServiceTypeNodePort, 1), svc(corev1.ServiceTypeNodePort, 2)); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	if err := update(svc(corev1.ServiceTypeNodePort, 2), svc(corev1.ServiceTypeClusterIP, 2)); err != nil {
		t.Error(err)
	}
}
