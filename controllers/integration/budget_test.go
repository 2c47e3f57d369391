package integration

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"hardway/shared/client"
)

const fleet = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.budget.example.com}
spec:
  group: budget.example.com
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}, status: {type: object, properties: {size: {type: integer}}}}}}
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
`

// testBudgetOfACustomOwner: how many pods a custom resource wants is asked for through its scale.
func testBudgetOfACustomOwner(t *testing.T, c *cluster) {
	ns := c.namespace("budget")
	c.hollow(ns)
	api, err := dynamic.NewForConfig(c.api.Config())
	if err != nil {
		t.Fatal(err)
	}
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(fleet), &definition.Object); err != nil {
		t.Fatal(err)
	}
	definitions := api.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := definitions.Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	owner := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "budget.example.com/v1", "kind": "Fleet", "metadata": map[string]any{"name": "ships"}, "spec": map[string]any{"size": int64(4)},
	}}
	fleets := api.Resource(schema.GroupVersionResource{Group: "budget.example.com", Version: "v1", Resource: "fleets"}).Namespace(ns)
	var made *unstructured.Unstructured
	c.eventually("a Fleet can be made", func() string {
		made, err = fleets.Create(t.Context(), owner, metav1.CreateOptions{})
		if err != nil {
			return err.Error()
		}
		return ""
	})
	for i := range 3 {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("ship", i), Labels: map[string]string{"app": "ship"}}, Spec: template("v1").Spec}
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(made, schema.GroupVersionKind{Group: "budget.example.com", Version: "v1", Kind: "Fleet"})}
		if _, err := client.Pods.Create(t.Context(), c.api, pod); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.PodDisruptionBudgets.Create(t.Context(), c.api, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ships"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: new(intstr.FromString("50%")), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ship"}}},
	}); err != nil {
		t.Fatal(err)
	}
	c.eventually("of four that should be there are three, and one may go", func() string {
		b, err := client.PodDisruptionBudgets.Get(t.Context(), c.api, ns, "ships")
		if err != nil || b.Status.ExpectedPods != 4 || b.Status.CurrentHealthy != 3 || b.Status.DisruptionsAllowed != 1 {
			return fmt.Sprintf("%v, %+v", err, b.Status)
		}
		return ""
	})
}
