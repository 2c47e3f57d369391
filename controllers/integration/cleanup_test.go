package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

func (c *cluster) configMap(namespace, name string, finalizers []string, owners ...*corev1.ConfigMap) *corev1.ConfigMap {
	c.t.Helper()
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: finalizers}}
	for _, o := range owners {
		obj.OwnerReferences = append(obj.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: o.Name, UID: o.UID, BlockOwnerDeletion: new(true)})
	}
	made, err := client.ConfigMaps.Create(c.t.Context(), c.api, obj)
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

func (c *cluster) deleteConfigMap(namespace, name string, policy metav1.DeletionPropagation) {
	c.t.Helper()
	if err := client.ConfigMaps.Delete(c.t.Context(), c.api, namespace, name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) unfinalize(namespace, name string) {
	if _, err := client.ConfigMaps.Patch(context.WithoutCancel(c.t.Context()), c.api, namespace, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
		c.t.Error(err)
	}
}

// there returns the names of the ConfigMaps that are in the namespace.
func (c *cluster) there(namespace string) string {
	c.t.Helper()
	list, err := client.ConfigMaps.List(c.t.Context(), c.api, namespace, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, obj := range list.Items {
		if obj.Name != "kube-root-ca.crt" {
			names = append(names, obj.Name)
		}
	}
	return strings.Join(names, " ")
}

func (c *cluster) thereIs(namespace, want string) func() string {
	return func() string {
		if have := c.there(namespace); have != want {
			return fmt.Sprintf("there is [%s], want [%s]", have, want)
		}
		return ""
	}
}

func testBackgroundDeletionGoesDown(t *testing.T, c *cluster) {
	ns := c.namespace("background")
	a := c.configMap(ns, "a", nil)
	b := c.configMap(ns, "b", nil, a)
	c.configMap(ns, "c", nil, b)
	other := c.configMap(ns, "other", nil)
	c.configMap(ns, "shared", nil, a, other)
	c.deleteConfigMap(ns, "a", metav1.DeletePropagationBackground)
	c.eventually("b and c go, shared stays", c.thereIs(ns, "other shared"))
	c.eventually("shared names only what lives", func() string {
		obj, err := client.ConfigMaps.Get(t.Context(), c.api, ns, "shared")
		if err != nil || len(obj.OwnerReferences) != 1 || obj.OwnerReferences[0].UID != other.UID {
			return fmt.Sprintf("%v, %+v", err, obj.OwnerReferences)
		}
		return ""
	})
}

func testForegroundDeletionWaits(t *testing.T, c *cluster) {
	ns := c.namespace("foreground")
	a := c.configMap(ns, "a", nil)
	c.configMap(ns, "b", []string{"test/hold"}, a)
	c.eventually("both there", c.thereIs(ns, "a b"))
	c.deleteConfigMap(ns, "a", metav1.DeletePropagationForeground)
	c.eventually("b is told to go", func() string {
		b, err := client.ConfigMaps.Get(t.Context(), c.api, ns, "b")
		if err != nil || b.DeletionTimestamp == nil {
			return fmt.Sprintf("%v, %+v", err, b)
		}
		return ""
	})
	c.steadily("a waits for b", c.thereIs(ns, "a b"))
	c.unfinalize(ns, "b")
	c.eventually("both go", c.thereIs(ns, ""))
}

func testForegroundDeletionOfACircle(t *testing.T, c *cluster) {
	ns := c.namespace("circle")
	a := c.configMap(ns, "a", nil)
	b := c.configMap(ns, "b", nil, a)
	patch := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"b","uid":%q,"blockOwnerDeletion":true}]}}`, b.UID)
	if _, err := client.ConfigMaps.Patch(t.Context(), c.api, ns, "a", types.MergePatchType, []byte(patch)); err != nil {
		t.Fatal(err)
	}
	c.deleteConfigMap(ns, "a", metav1.DeletePropagationForeground)
	c.eventually("both go", c.thereIs(ns, ""))
}

func testOrphaning(t *testing.T, c *cluster) {
	ns := c.namespace("orphan")
	a := c.configMap(ns, "a", nil)
	for i := range 5 {
		c.configMap(ns, fmt.Sprint("b", i), nil, a)
	}
	c.eventually("all there", c.thereIs(ns, "a b0 b1 b2 b3 b4"))
	c.deleteConfigMap(ns, "a", metav1.DeletePropagationOrphan)
	c.eventually("a goes", c.thereIs(ns, "b0 b1 b2 b3 b4"))
	c.steadily("the others stay", c.thereIs(ns, "b0 b1 b2 b3 b4"))
	for i := range 5 {
		obj, err := client.ConfigMaps.Get(t.Context(), c.api, ns, fmt.Sprint("b", i))
		if err != nil || len(obj.OwnerReferences) != 0 {
			t.Errorf("b%d: %v, owners %v", i, err, obj.OwnerReferences)
		}
	}
}

func testOwnersThatDoNotExist(t *testing.T, c *cluster) {
	ns, far := c.namespace("absent"), c.namespace("far")
	never := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "never", UID: "00000000-0000-0000-0000-00000000dead"}}
	c.configMap(ns, "of-nobody", nil, never)
	c.eventually("an object of an owner that never was goes", c.thereIs(ns, ""))

	owner := c.configMap(far, "owner", nil)
	c.configMap(ns, "crossing", nil, owner)
	c.eventually("an owner in another namespace does not count", c.thereIs(ns, ""))
	c.eventually("a warning says so", func() string {
		list, err := client.Events.List(t.Context(), c.api, ns, metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Reason == "OwnerRefInvalidNamespace" && e.InvolvedObject.Name == "crossing" {
				return ""
			}
		}
		return "no event"
	})
	c.eventually("the owner lives", c.thereIs(far, "owner"))

	unknown := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "of-a-kind-unknown", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "nowhere.example.org/v1", Kind: "Thing", Name: "x", UID: "00000000-0000-0000-0000-00000000beef"},
	}}}
	if _, err := client.ConfigMaps.Create(t.Context(), c.api, unknown); err != nil {
		t.Fatal(err)
	}
	c.steadily("an owner of a kind that is not served is no reason", c.thereIs(ns, "of-a-kind-unknown"))
}

func testNamespace(t *testing.T, c *cluster) {
	ns := c.namespace("ending")
	c.hollow(ns)
	c.eventually("root certificate", func() string { return found(client.ConfigMaps.Get(t.Context(), c.api, ns, "kube-root-ca.crt")) })
	c.createPod(ns, "held", nil, map[string]string{"test/linger": ""})
	c.eventually("bound", func() string {
		pod, err := client.Pods.Get(t.Context(), c.api, ns, "held")
		if err != nil || pod.Spec.NodeName == "" {
			return fmt.Sprintf("%v", err)
		}
		return ""
	})
	c.configMap(ns, "plain", nil)
	c.configMap(ns, "held", []string{"test/hold"})
	if err := client.Namespaces.Delete(t.Context(), c.api, "", ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	condition := func(kind corev1.NamespaceConditionType, part string) func() string {
		return func() string {
			obj, err := client.Namespaces.Get(t.Context(), c.api, "", ns)
			if err != nil {
				return err.Error()
			}
			for _, cond := range obj.Status.Conditions {
				if cond.Type == kind && cond.Status == corev1.ConditionTrue && strings.Contains(cond.Message, part) {
					return ""
				}
			}
			return fmt.Sprintf("%+v", obj.Status)
		}
	}
	c.eventually("says that it waits for the pod", condition(corev1.NamespaceContentRemaining, "pods. has 1 resource instances"))
	c.steadily("all else stays while pods are there", c.thereIs(ns, "held plain"))
	if err := client.Pods.Delete(t.Context(), c.api, ns, "held", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	c.eventually("then it goes", c.thereIs(ns, "held"))
	c.eventually("says what holds it", condition(corev1.NamespaceFinalizersRemaining, "test/hold in 1 resource instances"))
	c.unfinalize(ns, "held")
	c.eventually("gone", func() string { return gone(client.Namespaces.Get(t.Context(), c.api, "", ns)) })
}
