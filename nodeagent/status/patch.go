package status

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// ownedFields are the fields of a pod status that the node writes; an empty one is written as null. The addresses are
// handled apart because their lists merge by key.
var ownedFields = []string{
	"phase", "reason", "message", "hostIP", "podIP", "startTime", "qosClass", "observedGeneration",
	"containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses", "resources", "allocatedResources",
}

// patch returns the strategic merge patch that makes the owned part of the stored status equal to st. It holds only if
// the object still has this uid; conditions of other owners are not mentioned and therefore stay.
func patch(uid types.UID, stored, st *corev1.PodStatus) ([]byte, error) {
	all, err := toMap(st)
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	out := map[string]any{}
	for _, f := range ownedFields {
		out[f] = all[f]
	}
	for _, f := range []string{"hostIPs", "podIPs"} {
		if list, ok := all[f].([]any); ok && !sameIPs(f, stored, st) {
			out[f] = append([]any{map[string]any{"$patch": "replace"}}, list...)
		}
	}
	var conditions []any
	list, _ := all["conditions"].([]any)
	for _, c := range list {
		m := c.(map[string]any)
		if !owned(corev1.PodConditionType(m["type"].(string))) {
			continue
		}
		for _, f := range []string{"reason", "message", "observedGeneration"} {
			if _, ok := m[f]; !ok {
				m[f] = nil
			}
		}
		conditions = append(conditions, m)
	}
	for _, c := range stored.Conditions {
		if owned(c.Type) && condition(st.Conditions, c.Type) == nil {
			conditions = append(conditions, map[string]any{"type": c.Type, "$patch": "delete"})
		}
	}
	out["conditions"] = conditions
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": out})
}

func toMap(st *corev1.PodStatus) (map[string]any, error) {
	data, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(data, &m)
}

func sameIPs(field string, a, b *corev1.PodStatus) bool {
	if field == "hostIPs" {
		return slices.Equal(a.HostIPs, b.HostIPs)
	}
	return slices.Equal(a.PodIPs, b.PodIPs)
}

// same says whether two statuses agree in everything the node owns.
func same(a, b *corev1.PodStatus) bool {
	x, y := ownedPart(a), ownedPart(b)
	return apiequality.Semantic.DeepEqual(x, y)
}

func ownedPart(st *corev1.PodStatus) corev1.PodStatus {
	out := corev1.PodStatus{
		Phase: st.Phase, Reason: st.Reason, Message: st.Message, HostIP: st.HostIP, HostIPs: st.HostIPs, PodIP: st.PodIP,
		PodIPs: st.PodIPs, StartTime: st.StartTime, QOSClass: st.QOSClass, ObservedGeneration: st.ObservedGeneration,
		ContainerStatuses: st.ContainerStatuses, InitContainerStatuses: st.InitContainerStatuses,
		EphemeralContainerStatuses: st.EphemeralContainerStatuses, Resources: st.Resources, AllocatedResources: st.AllocatedResources,
	}
	for _, t := range ownedConditions {
		if c := condition(st.Conditions, t); c != nil {
			out.Conditions = append(out.Conditions, *c)
		}
	}
	return out
}
