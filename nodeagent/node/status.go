package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/shared/version"
)

// Facts is everything a node's status is computed from.
type Facts struct {
	Machine  Machine
	Gauges   Gauges
	Reserved corev1.ResourceList // for the system, not for pods
	Kept     corev1.ResourceList // what must stay free: the hard eviction thresholds
	MaxPods  int64
	Name     string
	IPs      []string
	Port     int32
	Handlers []string // names of runtimes that a RuntimeClass may mean
	Images   []corev1.ContainerImage
	Pressure map[corev1.NodeConditionType]bool
	Devices  [2]corev1.ResourceList    // of device plugins: how many there are, and how many can be had
	InUse    []corev1.UniqueVolumeName // volumes that must stay attached
	NotReady error                     // why no pod can run here now; nil: ready
	Starting bool                      // NotReady is no verdict: the parts of the node are still being started
	Now      time.Time
}

// Status computes the node's status from the facts; old gives the times of conditions that did not change.
func Status(f Facts, old corev1.NodeStatus) corev1.NodeStatus {
	st := corev1.NodeStatus{Capacity: capacity(f), NodeInfo: f.Machine.Info, Images: f.Images, VolumesInUse: f.InUse, VolumesAttached: old.VolumesAttached}
	st.Allocatable = allocatable(f, st.Capacity)
	maps.Copy(st.Capacity, f.Devices[0])
	maps.Copy(st.Allocatable, f.Devices[1])
	st.NodeInfo.KubeletVersion = version.Kubernetes
	st.NodeInfo.KubeProxyVersion = ""
	st.NodeInfo.ContainerRuntimeVersion = "hardway://" + version.Hardway
	for _, ip := range f.IPs {
		st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: f.Name})
	st.DaemonEndpoints.KubeletEndpoint.Port = f.Port
	for _, name := range append([]string{""}, f.Handlers...) {
		st.RuntimeHandlers = append(st.RuntimeHandlers, corev1.NodeRuntimeHandler{
			Name: name, Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: new(true), UserNamespaces: new(false)},
		})
	}
	st.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}
	for _, c := range []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, f.Pressure[corev1.NodeMemoryPressure],
			"KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		pressure(corev1.NodeDiskPressure, f.Pressure[corev1.NodeDiskPressure],
			"KubeletHasDiskPressure", "kubelet has disk pressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		pressure(corev1.NodePIDPressure, f.Pressure[corev1.NodePIDPressure],
			"KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		ready(f.NotReady),
	} {
		c.LastHeartbeatTime = metav1.NewTime(f.Now).Rfc3339Copy()
		c.LastTransitionTime = c.LastHeartbeatTime
		i := slices.IndexFunc(old.Conditions, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
		if i >= 0 && old.Conditions[i].Status == c.Status {
			c.LastTransitionTime = old.Conditions[i].LastTransitionTime
		}
		st.Conditions = append(st.Conditions, c)
	}
	return st
}

func pressure(t corev1.NodeConditionType, on bool, reason, message, okReason, okMessage string) corev1.NodeCondition {
	if on {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message}
	}
	return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: okReason, Message: okMessage}
}

func ready(problem error) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if problem != nil {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "KubeletNotReady", problem.Error()
	}
	return c
}

func capacity(f Facts) corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(f.Machine.CPUs, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(f.Machine.Memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(f.Machine.Storage, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(f.MaxPods, resource.DecimalSI),
	}
	for size, bytes := range f.Machine.HugePages {
		out[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	return out
}

// allocatable is what pods may have: the capacity without what is reserved and without what must stay free.
func allocatable(f Facts, all corev1.ResourceList) corev1.ResourceList {
	out := all.DeepCopy()
	take := func(name corev1.ResourceName, q resource.Quantity) {
		left := out[name]
		left.Sub(q)
		if left.Sign() < 0 {
			left = resource.Quantity{Format: left.Format}
		}
		out[name] = left
	}
	for _, list := range []corev1.ResourceList{f.Reserved, f.Kept} {
		for name, q := range list {
			take(name, q)
		}
	}
	for _, bytes := range f.Machine.HugePages {
		take(corev1.ResourceMemory, *resource.NewQuantity(bytes, resource.BinarySI))
	}
	return out
}

// statusPatch is the merge patch that makes a node's status say what it is to say. What others write stays: the volumes
// that are attached, and resources that the agent knows nothing of.
func statusPatch(st corev1.NodeStatus) ([]byte, error) {
	st.VolumesAttached = nil
	data, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encode node status: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("encode node status: %w", err)
	}
	if len(st.VolumesInUse) == 0 {
		fields["volumesInUse"] = nil // an empty list would be left out and change nothing
	}
	return json.Marshal(map[string]any{"status": fields})
}

// changed says whether two statuses differ in more than the times of their conditions.
func changed(a, b corev1.NodeStatus) bool { return !apiequality.Semantic.DeepEqual(strip(a), strip(b)) }

func strip(st corev1.NodeStatus) corev1.NodeStatus {
	out := *st.DeepCopy()
	for i := range out.Conditions {
		out.Conditions[i].LastHeartbeatTime = metav1.Time{}
		out.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	return out
}
