package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}
}

func newDeployment(namespace string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("v1")},
	}
}

// rolledOut is what kubectl rollout status waits for.
func rolledOut(d *appsv1.Deployment) string {
	s, want := d.Status, *d.Spec.Replicas
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.Replicas != want || s.AvailableReplicas != want {
		return fmt.Sprintf("generation %d, status %+v", d.Generation, s)
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable" {
			return ""
		}
	}
	return fmt.Sprintf("conditions %+v", s.Conditions)
}

func (c *cluster) rolloutDone(namespace string) string {
	d, err := client.Deployments.Get(c.t.Context(), c.api, namespace, "web")
	if err != nil {
		return err.Error()
	}
	return rolledOut(d)
}

func (c *cluster) patchDeployment(namespace string, spec map[string]any) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := client.Deployments.Patch(c.t.Context(), c.api, namespace, "web", types.StrategicMergePatchType, patch); err != nil {
		c.t.Fatal(err)
	}
}

func image(v string) map[string]any {
	return map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []map[string]any{{"name": "c", "image": v}}}}}
}

func (c *cluster) sets(namespace string) []appsv1.ReplicaSet {
	c.t.Helper()
	list, err := client.ReplicaSets.List(c.t.Context(), c.api, namespace, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b appsv1.ReplicaSet) int {
		return strings.Compare(a.Annotations[revision], b.Annotations[revision])
	})
	return list.Items
}

func (c *cluster) pods(namespace string) []corev1.Pod {
	c.t.Helper()
	list, err := client.Pods.List(c.t.Context(), c.api, namespace, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

const revision = "deployment.kubernetes.io/revision"

func testDeployment(t *testing.T, c *cluster) {
	ns := c.namespace("deployment")
	c.hollow(ns)
	if _, err := client.Deployments.Create(t.Context(), c.api, newDeployment(ns, 3)); err != nil {
		t.Fatal(err)
	}
	c.eventually("first rollout", func() string { return c.rolloutDone(ns) })

	c.patchDeployment(ns, image("v2"))
	c.eventually("update", func() string { return c.rolloutDone(ns) })
	sets := c.sets(ns)
	if len(sets) != 2 || *sets[0].Spec.Replicas != 0 || *sets[1].Spec.Replicas != 3 || sets[1].Annotations[revision] != "2" {
		t.Fatalf("replica sets after the update: %+v", sets)
	}
	d, err := client.Deployments.Get(t.Context(), c.api, ns, "web")
	if err != nil || d.Annotations[revision] != "2" {
		t.Fatalf("revision of the deployment: %v, %v", d.Annotations, err)
	}

	c.patchDeployment(ns, image("v1")) // undo
	c.eventually("undo", func() string { return c.rolloutDone(ns) })
	if sets := c.sets(ns); len(sets) != 2 || sets[1].Annotations[revision] != "3" || sets[1].Spec.Template.Spec.Containers[0].Image != "v1" {
		t.Fatalf("replica sets after the undo: %+v", sets)
	}

	c.patchDeployment(ns, map[string]any{"replicas": 5, "paused": true})
	c.eventually("scaled while paused", func() string {
		if n := len(c.pods(ns)); n != 5 {
			return fmt.Sprintf("%d pods", n)
		}
		return ""
	})
	c.patchDeployment(ns, image("v3"))
	c.steadily("no rollout while paused", func() string {
		if n := len(c.sets(ns)); n != 2 {
			return fmt.Sprintf("%d replica sets", n)
		}
		return ""
	})
	c.patchDeployment(ns, map[string]any{"paused": false})
	c.eventually("resumed", func() string { return c.rolloutDone(ns) })

	if err := client.Deployments.Delete(t.Context(), c.api, ns, "web", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
		t.Fatal(err)
	}
	c.eventually("everything collected", func() string {
		if sets, pods := c.sets(ns), c.pods(ns); len(sets)+len(pods) > 0 {
			return fmt.Sprintf("%d replica sets, %d pods", len(sets), len(pods))
		}
		return ""
	})
}

func testRecreate(t *testing.T, c *cluster) {
	ns := c.namespace("recreate")
	c.hollow(ns)
	d := newDeployment(ns, 2)
	d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
	d.Spec.Template.Annotations = map[string]string{"test/linger": ""}
	if _, err := client.Deployments.Create(t.Context(), c.api, d); err != nil {
		t.Fatal(err)
	}
	c.eventually("first rollout", func() string { return c.rolloutDone(ns) })
	c.patchDeployment(ns, image("v2"))
	c.eventually("the old ones are told to go", func() string {
		for _, pod := range c.pods(ns) {
			if pod.DeletionTimestamp == nil {
				return pod.Name + " is not"
			}
		}
		return ""
	})
	c.steadily("nothing new beside the old", func() string {
		if n := len(c.pods(ns)); n != 2 {
			return fmt.Sprintf("%d pods", n)
		}
		return ""
	})
	for _, pod := range c.pods(ns) {
		if err := client.Pods.Delete(t.Context(), c.api, ns, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("second rollout", func() string { return c.rolloutDone(ns) })
}

func testReplicaSetAdoptsAndReleases(t *testing.T, c *cluster) {
	ns := c.namespace("adopt")
	c.hollow(ns)
	orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "orphan", Labels: map[string]string{"app": "web"}}, Spec: template("v1").Spec}
	if _, err := client.Pods.Create(t.Context(), c.api, orphan); err != nil {
		t.Fatal(err)
	}
	set, err := client.ReplicaSets.Create(t.Context(), c.api, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec:       appsv1.ReplicaSetSpec{Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("v1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	owner := func() string {
		pod, err := client.Pods.Get(t.Context(), c.api, ns, "orphan")
		if err != nil {
			return err.Error()
		}
		if ref := metav1.GetControllerOf(pod); ref != nil {
			return string(ref.UID)
		}
		return "nobody"
	}
	c.eventually("adopted", func() string {
		if o := owner(); o != string(set.UID) {
			return o
		}
		if n := len(c.pods(ns)); n != 2 {
			return fmt.Sprintf("%d pods", n)
		}
		return ""
	})
	if _, err := client.Pods.Patch(t.Context(), c.api, ns, "orphan", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"other"}}}`)); err != nil {
		t.Fatal(err)
	}
	c.eventually("released and replaced", func() string {
		if o := owner(); o != "nobody" {
			return o
		}
		if n := len(c.pods(ns)); n != 3 {
			return fmt.Sprintf("%d pods", n)
		}
		return ""
	})
}

// TestNeverMoreThanAskedFor kills the controllers again and again while a ReplicaSet grows.
func TestNeverMoreThanAskedFor(t *testing.T) {
	c := newCluster(t)
	ns := ""
	d := c.start()
	ns = c.namespace("killed")
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec:       appsv1.ReplicaSetSpec{Replicas: new(int32(60)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("v1")},
	}
	if _, err := client.ReplicaSets.Create(t.Context(), c.api, set); err != nil {
		t.Fatal(err)
	}
	for n := 5; n < 60; n += 15 {
		c.eventually("some pods", func() string {
			if have := len(c.pods(ns)); have < n {
				return fmt.Sprintf("%d", have)
			}
			return ""
		})
		d.end(syscall.SIGKILL)
		d = c.start()
	}
	c.eventually("all pods", func() string {
		if have := len(c.pods(ns)); have < 60 {
			return fmt.Sprintf("%d", have)
		}
		return ""
	})
	c.steadily("no more than asked for", func() string {
		if have := len(c.pods(ns)); have != 60 {
			return fmt.Sprintf("%d", have)
		}
		return ""
	})
}

// TestSuccession has one process take over from another: at once when the leader leaves, after the Lease has run out
// when it is killed.
func TestSuccession(t *testing.T) {
	c := newCluster(t)
	flags := []string{"--leader-elect=true", "--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=200ms"}
	holder := func() string {
		lease, err := client.Leases.Get(t.Context(), c.api, "kube-system", "kube-controller-manager")
		if err != nil || lease.Spec.HolderIdentity == nil {
			return ""
		}
		return *lease.Spec.HolderIdentity
	}
	next := func(before string) string {
		t.Helper()
		now := before
		c.eventually("another leader than "+before, func() string {
			if now = holder(); now == before || now == "" {
				return now + " leads"
			}
			return ""
		})
		return now
	}
	first := c.start(flags...)
	one := next("")
	second := c.start(flags...)
	c.steadily("one leader", func() string {
		if h := holder(); h != one {
			return h
		}
		return ""
	})
	begin := time.Now()
	first.end(syscall.SIGTERM)
	two := next(one)
	t.Logf("took over after %v from one that left", time.Since(begin).Round(time.Millisecond))
	c.start(flags...)
	begin = time.Now()
	second.end(syscall.SIGKILL)
	next(two)
	t.Logf("took over after %v from one that was killed", time.Since(begin).Round(time.Millisecond))
	c.namespace("succession") // and it works
}
