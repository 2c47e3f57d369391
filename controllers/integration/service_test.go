package integration

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/shared/client"
)

func (c *cluster) slices(namespace, service string) []discoveryv1.EndpointSlice {
	c.t.Helper()
	list, err := client.EndpointSlices.List(c.t.Context(), c.api, namespace, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

// addresses returns the ready and the other addresses of a Service's slices.
func (c *cluster) addresses(namespace, service string) (ready, others int) {
	for _, s := range c.slices(namespace, service) {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready++
			} else {
				others++
			}
		}
	}
	return ready, others
}

func (c *cluster) createService(svc *corev1.Service) *corev1.Service {
	c.t.Helper()
	svc, err := client.Services.Create(c.t.Context(), c.api, svc)
	if err != nil {
		c.t.Fatal(err)
	}
	return svc
}

func (c *cluster) createPod(namespace, name string, labels, annotations map[string]string) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, Annotations: annotations}, Spec: template("v1").Spec}
	if _, err := client.Pods.Create(c.t.Context(), c.api, pod); err != nil {
		c.t.Fatal(err)
	}
}

func testEndpointsOfAService(t *testing.T, c *cluster) {
	ns := c.namespace("service")
	h := c.hollow(ns)
	labels := map[string]string{"app": "web"}
	c.createService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web", Labels: map[string]string{"team": "a"}},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}},
	})
	c.eventually("an empty slice", func() string {
		if n := len(c.slices(ns, "web")); n != 1 {
			return fmt.Sprintf("%d slices", n)
		}
		return ""
	})
	for i := range 3 {
		c.createPod(ns, fmt.Sprint("web-", i), labels, nil)
	}
	c.createPod(ns, "unready", labels, map[string]string{"test/unready": ""})
	c.eventually("three ready, one not", func() string {
		if ready, others := c.addresses(ns, "web"); ready != 3 || others != 1 {
			return fmt.Sprintf("%d ready, %d not", ready, others)
		}
		return ""
	})
	s := c.slices(ns, "web")[0]
	if *s.Ports[0].Port != 8080 || *s.Ports[0].Name != "http" || s.Labels["team"] != "a" || s.Labels[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" || s.AddressType != discoveryv1.AddressTypeIPv4 {
		t.Errorf("slice: %+v", s)
	}
	if e := s.Endpoints[0]; *e.NodeName != h.name || *e.Zone != "zone-a" || e.TargetRef.Kind != "Pod" || !*e.Conditions.Serving && *e.Conditions.Ready {
		t.Errorf("endpoint: %+v", e)
	}
	c.eventually("Endpoints say the same", func() string {
		ep, err := client.Endpoints.Get(t.Context(), c.api, ns, "web")
		if err != nil || len(ep.Subsets) != 1 || len(ep.Subsets[0].Addresses) != 3 || len(ep.Subsets[0].NotReadyAddresses) != 1 || ep.Subsets[0].Ports[0].Port != 8080 {
			return fmt.Sprintf("%v, %+v", err, ep)
		}
		return ""
	})
	if err := client.Pods.Delete(t.Context(), c.api, ns, "web-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("one less", func() string {
		if ready, _ := c.addresses(ns, "web"); ready != 2 {
			return fmt.Sprintf("%d ready", ready)
		}
		return ""
	})
	if n := len(c.slices(ns, "web")); n != 1 {
		t.Errorf("%d slices", n)
	}
	if err := client.Services.Delete(t.Context(), c.api, ns, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("all gone", func() string {
		if n := len(c.slices(ns, "web")); n > 0 {
			return fmt.Sprintf("%d slices", n)
		}
		return gone(client.Endpoints.Get(t.Context(), c.api, ns, "web"))
	})
}

func testHeadlessService(t *testing.T, c *cluster) {
	ns := c.namespace("headless")
	c.hollow(ns)
	labels := map[string]string{"app": "db"}
	c.createService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "db"},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: labels, PublishNotReadyAddresses: true},
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "db-0", Labels: labels, Annotations: map[string]string{"test/unready": ""}}, Spec: template("v1").Spec}
	pod.Spec.Hostname, pod.Spec.Subdomain = "db-0", "db"
	if _, err := client.Pods.Create(t.Context(), c.api, pod); err != nil {
		t.Fatal(err)
	}
	c.eventually("published though not ready, with its host name", func() string {
		list := c.slices(ns, "db")
		if len(list) != 1 || len(list[0].Endpoints) != 1 {
			return fmt.Sprintf("%+v", list)
		}
		e := list[0].Endpoints[0]
		if _, marked := list[0].Labels[corev1.IsHeadlessService]; !marked || e.Hostname == nil || *e.Hostname != "db-0" || !*e.Conditions.Ready || *e.Conditions.Serving {
			return fmt.Sprintf("%+v", list[0])
		}
		return ""
	})
}

// testManyEndpoints grows a Service beyond one slice.
func testManyEndpoints(t *testing.T, c *cluster) {
	ns := c.namespace("many")
	c.hollow(ns)
	labels := map[string]string{"app": "web"}
	c.createService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}})
	for i := range 130 {
		c.createPod(ns, fmt.Sprint("web-", i), labels, nil)
	}
	c.eventually("130 addresses", func() string {
		if ready, _ := c.addresses(ns, "web"); ready != 130 {
			return fmt.Sprint(ready)
		}
		return ""
	})
	var sizes []int
	seen := map[string]bool{}
	for _, s := range c.slices(ns, "web") {
		sizes = append(sizes, len(s.Endpoints))
		for _, e := range s.Endpoints {
			seen[e.Addresses[0]] = true
		}
	}
	slices.Sort(sizes)
	if len(sizes) != 2 || sizes[1] > 100 || len(seen) != 130 {
		t.Errorf("sizes of slices: %v; %d different addresses", sizes, len(seen))
	}
}

func testMirroring(t *testing.T, c *cluster) {
	ns := c.namespace("mirror")
	c.createService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ext"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	_, err := client.Endpoints.Create(t.Context(), c.api, &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ext"},
		Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}, {IP: "192.0.2.2"}}, Ports: []corev1.EndpointPort{{Port: 8080, Protocol: corev1.ProtocolTCP}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("mirrored", func() string {
		list := c.slices(ns, "ext")
		if len(list) != 1 || len(list[0].Endpoints) != 2 || list[0].Labels[discoveryv1.LabelManagedBy] != "endpointslicemirroring-controller.k8s.io" {
			return fmt.Sprintf("%+v", list)
		}
		return ""
	})
	patch := []byte(`{"subsets":[{"addresses":[{"ip":"192.0.2.3"}],"ports":[{"port":8080,"protocol":"TCP"}]}]}`)
	if _, err := client.Endpoints.Patch(t.Context(), c.api, ns, "ext", types.MergePatchType, patch); err != nil {
		t.Fatal(err)
	}
	c.eventually("follows", func() string {
		list := c.slices(ns, "ext")
		if len(list) != 1 || len(list[0].Endpoints) != 1 || list[0].Endpoints[0].Addresses[0] != "192.0.2.3" {
			return fmt.Sprintf("%+v", list)
		}
		return ""
	})
	if err := client.Endpoints.Delete(t.Context(), c.api, ns, "ext", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("gone", func() string {
		if n := len(c.slices(ns, "ext")); n > 0 {
			return fmt.Sprintf("%d slices", n)
		}
		return ""
	})
}
