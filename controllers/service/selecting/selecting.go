// Package selecting holds the rules that Endpoints and EndpointSlices share: which pods stand behind a Service, with
// which port, and which changes of a pod matter to the Services that select it. All of it is pure.
package selecting

import (
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/controllers/podstate"
)

// Matches reports whether the Service selects the labels. A Service without selector selects nothing.
func Matches(svc *corev1.Service, labels map[string]string) bool {
	if len(svc.Spec.Selector) == 0 {
		return false
	}
	for k, v := range svc.Spec.Selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// HasSelector reports whether the Service is one whose endpoints are made from pods.
func HasSelector(svc *corev1.Service) bool {
	return len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName
}

// Pods returns the pods of the namespace that the Service selects.
func Pods(svc *corev1.Service, all iter.Seq[*corev1.Pod]) []*corev1.Pod {
	var out []*corev1.Pod
	for pod := range all {
		if Matches(svc, pod.Labels) {
			out = append(out, pod)
		}
	}
	return out
}

// Serves reports whether the pod has addresses to speak of: it has not ended, has an IP and, unless terminating pods
// are wanted too, is not being deleted.
func Serves(pod *corev1.Pod, terminatingToo bool) bool {
	if podstate.Terminal(pod) || (pod.Status.PodIP == "" && len(pod.Status.PodIPs) == 0) {
		return false
	}
	return terminatingToo || pod.DeletionTimestamp == nil
}

// Port finds the pod's number for a port of the Service: a number is taken as it is, a name is looked up in the
// containers and sidecars. ok is false when the pod has no port of that name.
func Port(pod *corev1.Pod, port *corev1.ServicePort) (number int32, ok bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	lookup := func(c *corev1.Container) bool {
		for _, p := range c.Ports {
			if p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
				number, ok = p.ContainerPort, true
				return true
			}
		}
		return false
	}
	for i := range pod.Spec.Containers {
		if lookup(&pod.Spec.Containers[i]) {
			return number, ok
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways && lookup(c) {
			return number, ok
		}
	}
	return 0, false
}

// Hostname returns the name that the pod has inside the Service's domain, "" when it has none.
func Hostname(pod *corev1.Pod, svc *corev1.Service) string {
	if pod.Spec.Subdomain == svc.Name && pod.Namespace == svc.Namespace {
		return pod.Spec.Hostname
	}
	return ""
}

// Headless reports whether the Service has no cluster IP.
func Headless(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.ClusterIP == ""
}

// Changed reports whether an update of a pod may change the endpoints of the Services that select it.
func Changed(before, after *corev1.Pod) bool {
	return (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		podstate.Ready(before) != podstate.Ready(after) ||
		podstate.Terminal(before) != podstate.Terminal(after) ||
		before.UID != after.UID ||
		before.Spec.NodeName != after.Spec.NodeName ||
		before.Status.PodIP != after.Status.PodIP ||
		!slices.Equal(before.Status.PodIPs, after.Status.PodIPs) ||
		!maps.Equal(before.Labels, after.Labels)
}
