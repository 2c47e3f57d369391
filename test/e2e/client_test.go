//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// TestClientGoInformer is the usual client-go program: a shared informer tells what happens to ConfigMaps.
func TestClientGoInformer(t *testing.T) {
	u := newUser(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(state, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 100)
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(u.namespace))
	configMaps := factory.Core().V1().ConfigMaps()
	_, err = configMaps.Informer().AddEventHandler(cache.FilteringResourceEventHandler{
		FilterFunc: func(o any) bool { c, ok := o.(*corev1.ConfigMap); return ok && c.Name == "watched" },
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { events <- "added " + o.(*corev1.ConfigMap).Data["k"] },
			UpdateFunc: func(_, o any) { events <- "updated " + o.(*corev1.ConfigMap).Data["k"] },
			DeleteFunc: func(any) { events <- "deleted" },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), configMaps.Informer().HasSynced) {
		t.Fatal("the informer did not sync")
	}

	api := clients.CoreV1().ConfigMaps(u.namespace)
	made, err := api.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "watched"}, Data: map[string]string{"k": "1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Data["k"] = "2"
	if _, err := api.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(ctx, "watched", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"added 1", "updated 2", "deleted"} {
		select {
		case got := <-events:
			if got != want {
				t.Errorf("event %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("no event, want %q", want)
		}
	}
}
