// Package fields reads values out of a pod for the downward API: fields by path, and the requests and limits of its
// containers. It is pure. What is not known yet, such as an address, is an empty string; a path that the API does not
// offer is an error that names it.
package fields

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Node is what a pod may learn of the machine it runs on.
type Node struct {
	HostIPs     []string
	Allocatable corev1.ResourceList // stands in for limits that are not set
}

// Field returns the value of a field reference. podIPs may be ahead of the pod's reported status.
func Field(pod *corev1.Pod, node Node, podIPs []string, path string) (string, error) {
	if base, key, ok := subscript(path); ok {
		switch base {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
		return "", fmt.Errorf("field %q does not support subscripts", base)
	}
	switch path {
	case "metadata.annotations":
		return mapLines(pod.Annotations), nil
	case "metadata.labels":
		return mapLines(pod.Labels), nil
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(node.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(node.HostIPs, ","), nil
	case "status.podIP":
		return first(podIPs), nil
	case "status.podIPs":
		return strings.Join(podIPs, ","), nil
	}
	return "", fmt.Errorf("field path %q is not supported", path)
}

// subscript splits metadata.labels['key'].
func subscript(path string) (base, key string, ok bool) {
	base, rest, ok := strings.Cut(path, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return base, strings.TrimSuffix(rest, "']"), true
}

// mapLines writes a map as upstream does: one key="value" a line, sorted.
func mapLines(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Resource returns the value of a resource reference, divided by its divisor and rounded up. container is used when
// the reference names none.
func Resource(pod *corev1.Pod, node Node, container *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	c := container
	if ref.ContainerName != "" {
		if c = byName(pod, ref.ContainerName); c == nil {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
	}
	if c == nil {
		return "", fmt.Errorf("resource %s: no container named", ref.Resource)
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	if !ok || kind != "limits" && kind != "requests" {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	q := amount(c, node, kind, corev1.ResourceName(name))
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}

// amount is a request or a limit; a limit that is not set is what the node has.
func amount(c *corev1.Container, node Node, kind string, name corev1.ResourceName) resource.Quantity {
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
		if q, ok := list[name]; !ok || q.IsZero() {
			return node.Allocatable[name]
		}
	}
	return list[name]
}

func byName(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
