package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

func configMap(name string, labels map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels}, Data: map[string]string{"k": "v"}}
}

func TestVerbs(t *testing.T) {
	api := testenv.Start(t).API()
	ctx := t.Context()
	made, err := client.ConfigMaps.Create(ctx, api, configMap("a", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ConfigMaps.Create(ctx, api, configMap("a", nil)); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second create: %v", err)
	}
	made.Data["k"] = "w"
	if _, err := client.ConfigMaps.Update(ctx, api, made); err != nil {
		t.Error(err)
	}
	if _, err := client.ConfigMaps.Update(ctx, api, made); !apierrors.IsConflict(err) {
		t.Errorf("an update from an old state: %v", err)
	}
	patched, err := client.ConfigMaps.Patch(ctx, api, "default", "a", types.MergePatchType, []byte(`{"data":{"k":"x"}}`))
	if err != nil || patched.Data["k"] != "x" {
		t.Errorf("patch: %v %v", patched, err)
	}
	list, err := client.ConfigMaps.List(ctx, api, "default", metav1.ListOptions{FieldSelector: "metadata.name=a"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("list: %v %v", list, err)
	}
	if err := client.ConfigMaps.Delete(ctx, api, "default", "a", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := client.ConfigMaps.Get(ctx, api, "default", "a"); !apierrors.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
}

// TestInformerSurvivesRestart follows objects across a kill -9 of the apiserver.
func TestInformerSurvivesRestart(t *testing.T) {
	env := testenv.Start(t)
	api := env.API()
	informers := client.NewInformers(api, zap.NewNop())
	changes := make(chan string, 100)
	maps := client.ConfigMaps.Informer(informers, client.Options{
		Namespace: "default", LabelSelector: "app=web",
		Indexes: map[string]func(any) []string{"value": func(o any) []string { return []string{o.(*corev1.ConfigMap).Data["k"]} }},
	})
	maps.OnChange(func(old, now *corev1.ConfigMap) {
		switch {
		case old == nil:
			changes <- "add " + now.Name
		case now == nil:
			changes <- "delete " + old.Name
		default:
			changes <- "update " + now.Name
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- informers.Run(ctx) }()
	defer func() {
		cancel()
		<-done //nolint:errcheck // how it ended does not matter here
	}()
	if !informers.WaitForSync(t.Context()) {
		t.Fatal("not synced")
	}
	expect := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-changes:
				if got == want {
					return
				}
				t.Fatalf("got %q, want %q", got, want)
			case <-time.After(60 * time.Second):
				t.Fatalf("no %q", want)
			}
		}
	}
	create := func(cm *corev1.ConfigMap) {
		t.Helper()
		if _, err := client.ConfigMaps.Create(t.Context(), env.API(), cm); err != nil {
			t.Fatal(err)
		}
	}
	create(configMap("ignored", nil))
	create(configMap("one", map[string]string{"app": "web"}))
	expect("add one")
	if got := maps.ByIndex("value", "v"); len(got) != 1 || got[0].Name != "one" {
		t.Errorf("by index: %v", got)
	}
	port := env.Address
	env.Kill()
	env.Relaunch(port)
	create(configMap("two", map[string]string{"app": "web"}))
	expect("add two")
	if err := client.ConfigMaps.Delete(t.Context(), env.API(), "default", "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("delete one")
}

func TestEventsAreCounted(t *testing.T) {
	api := testenv.Start(t).API()
	recorder := client.NewRecorder(api, "test", "node-1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- recorder.Run(ctx) }()
	defer func() {
		cancel()
		<-done //nolint:errcheck // how it ended does not matter here
	}()
	about := configMap("a", nil)
	about.UID = "123"
	watch, err := client.Events.Watch(t.Context(), api, "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for range 3 {
		recorder.Event(about, corev1.EventTypeWarning, "Broken", "it is %s", "broken")
	}
	deadline := time.After(30 * time.Second)
	for {
		select {
		case e := <-watch.ResultChan():
			got := e.Object.(*corev1.Event)
			if text := fmt.Sprint(got.Reason, " ", got.Message, " ", got.Source.Component); text != "Broken it is broken test" {
				t.Fatalf("event %q", text)
			}
			if got.Count == 3 {
				return
			}
		case <-deadline:
			t.Fatal("three equal events did not become one with a count of 3")
		}
	}
}
