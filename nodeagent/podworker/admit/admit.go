// Package admit decides whether a pod that was bound to this node may run on it. The scheduler has asked the same
// questions before, but pods can be bound by hand, and a node knows best what it cannot do. It is pure; a refusal
// becomes the pod's final status, so it is worded for the user. Reasons are upstream's where upstream has them.
package admit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/nodeagent/evict"
	"hardway/nodeagent/plan"
	"hardway/nodeagent/podsource/fields"
)

// Node is what pods are measured against.
type Node struct {
	Object        *corev1.Node
	Pods          []*corev1.Pod                     // that run here already
	UnsafeSysctls []string                          // names, or prefixes ending in *, that the operator allows
	Pressure      map[corev1.NodeConditionType]bool // what the node is short of
}

// Check returns why the pod cannot run here, nil if it can.
func Check(pod *corev1.Pod, n Node) *plan.Failure {
	for _, rule := range []func(*corev1.Pod, Node) *plan.Failure{
		operatingSystem, sysctls, pressure, affinity, ports, Resources,
	} {
		if f := rule(pod, n); f != nil {
			return f
		}
	}
	return nil
}

func operatingSystem(pod *corev1.Pod, _ Node) *plan.Failure {
	if pod.Spec.OS != nil && pod.Spec.OS.Name != corev1.Linux {
		return &plan.Failure{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if os, ok := pod.Labels[corev1.LabelOSStable]; ok && os != string(corev1.Linux) {
		return &plan.Failure{Reason: "PodOSSelectorNodeLabelDoesNotMatch",
			Message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	return nil
}

// safeSysctls are namespaced and cannot harm other pods. Source: kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
}

func sysctls(pod *corev1.Pod, n Node) *plan.Failure {
	s := pod.Spec.SecurityContext
	if s == nil {
		return nil
	}
	for _, c := range s.Sysctls {
		name := strings.ReplaceAll(c.Name, "/", ".")
		allowed := slices.Contains(safeSysctls, name) || slices.ContainsFunc(n.UnsafeSysctls, func(p string) bool {
			prefix, wild := strings.CutSuffix(p, "*")
			return name == p || wild && strings.HasPrefix(name, prefix)
		})
		problem := ""
		switch {
		case !allowed:
			problem = "not allowlisted"
		case pod.Spec.HostNetwork && strings.HasPrefix(name, "net."):
			problem = "not allowed with host net enabled"
		case pod.Spec.HostIPC && !strings.HasPrefix(name, "net."):
			problem = "not allowed with host ipc enabled"
		}
		if problem != "" {
			return &plan.Failure{Reason: "SysctlForbidden", Message: fmt.Sprintf("forbidden sysctl: %q %s", c.Name, problem)}
		}
	}
	return nil
}

// pressure keeps pods out that would be the first to be evicted again. Those that the cluster needs come in.
func pressure(pod *corev1.Pod, n Node) *plan.Failure {
	if len(n.Pressure) == 0 || evict.Critical(pod) {
		return nil
	}
	memoryOnly := n.Pressure[corev1.NodeMemoryPressure] && len(n.Pressure) == 1
	if memoryOnly && (fields.QOSClass(pod) != corev1.PodQOSBestEffort || toleratesMemoryPressure(pod)) {
		return nil
	}
	return &plan.Failure{Reason: "Evicted", Message: fmt.Sprintf("The node had condition: %v. ", slices.Sorted(maps.Keys(n.Pressure)))}
}

func toleratesMemoryPressure(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Key == corev1.TaintNodeMemoryPressure || t.Key == "" && t.Operator == corev1.TolerationOpExists) &&
			(t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule)
	})
}

func affinity(pod *corev1.Pod, n Node) *plan.Failure {
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n.Object); err != nil || !ok {
		return &plan.Failure{Reason: "NodeAffinity", Message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

type hostPort struct {
	ip, protocol string
	port         int32
}

func (a hostPort) clashes(b hostPort) bool {
	return a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || a.ip == "0.0.0.0" || b.ip == "0.0.0.0")
}

func ports(pod *corev1.Pod, n Node) *plan.Failure {
	var taken []hostPort
	for _, p := range n.Pods {
		taken = append(taken, hostPorts(p)...)
	}
	for _, want := range hostPorts(pod) {
		if slices.ContainsFunc(taken, want.clashes) {
			return &plan.Failure{Reason: "NodePorts",
				Message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
		}
	}
	return nil
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort != 0 {
				out = append(out, hostPort{cmp.Or(p.HostIP, "0.0.0.0"), cmp.Or(string(p.Protocol), "TCP"), p.HostPort})
			}
		}
	}
	return out
}

// Resources compares the requests of the pod with what the node has left.
func Resources(pod *corev1.Pod, n Node) *plan.Failure {
	allocatable := n.Object.Status.Allocatable
	if limit := allocatable.Pods().Value(); limit > 0 && int64(len(n.Pods))+1 > limit {
		return outOf(corev1.ResourcePods, 1, int64(len(n.Pods)), limit)
	}
	used := corev1.ResourceList{}
	for _, p := range n.Pods {
		for name, q := range resource.PodRequests(p, resource.PodResourcesOptions{}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	wanted := resource.PodRequests(pod, resource.PodResourcesOptions{})
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		want, have, taken := wanted[name], allocatable[name], used[name]
		if want.IsZero() {
			continue
		}
		if _, known := allocatable[name]; !known && strings.Contains(string(name), "/") {
			continue // as upstream: a resource of the cluster that the node knows nothing of
		}
		left := have.DeepCopy()
		left.Sub(taken)
		if want.Cmp(left) <= 0 {
			continue
		}
		if name == corev1.ResourceCPU {
			return outOf(name, want.MilliValue(), taken.MilliValue(), have.MilliValue())
		}
		return outOf(name, want.Value(), taken.Value(), have.Value())
	}
	return nil
}

func outOf(name corev1.ResourceName, requested, used, capacity int64) *plan.Failure {
	return &plan.Failure{Reason: "OutOf" + string(name), Message: fmt.Sprintf(
		"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
}
