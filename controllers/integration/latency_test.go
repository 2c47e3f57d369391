package integration

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/client"
)

// BenchmarkReaction measures from the answer to a creation until a watch shows what the controllers made of it: the
// default ServiceAccount of a namespace, and the last of the three pods of a Deployment. It judges nothing.
func BenchmarkReaction(b *testing.B) {
	b.Run("namespace to service account", func(b *testing.B) { measure(b, toAccount) })
	b.Run("deployment to three pods", func(b *testing.B) { measure(b, toPods) })
}

func measure(b *testing.B, once func(*testing.B, *cluster) time.Duration) {
	c := newCluster(b)
	c.start()
	c.namespace("warm")
	var took []time.Duration
	for b.Loop() {
		took = append(took, once(b, c))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms-p50")
	b.ReportMetric(took[len(took)*95/100].Seconds()*1000, "ms-p95")
}

func toAccount(b *testing.B, c *cluster) time.Duration {
	w, err := client.ServiceAccounts.Watch(b.Context(), c.api, "", metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	ns, err := client.Namespaces.Create(b.Context(), c.api, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}})
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	for e := range w.ResultChan() {
		if sa, ok := e.Object.(*corev1.ServiceAccount); ok && sa.Namespace == ns.Name {
			return time.Since(begin)
		}
	}
	b.Fatal("the watch ended")
	return 0
}

func toPods(b *testing.B, c *cluster) time.Duration {
	ns := c.namespace("bench")
	w, err := client.Pods.Watch(b.Context(), c.api, ns, metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	if _, err := client.Deployments.Create(b.Context(), c.api, newDeployment(ns, 3)); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	n := 0
	for range w.ResultChan() {
		if n++; n == 3 {
			return time.Since(begin)
		}
	}
	b.Fatal("the watch ended")
	return 0
}
