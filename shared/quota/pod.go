package quota

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// addPod adds what the pod's containers ask for together. Requests of CPU, memory and local storage are limited under
// their plain names, too.
func addPod(out corev1.ResourceList, p *corev1.Pod) {
	for name, q := range resource.PodRequests(p, resource.PodResourcesOptions{UseStatusResources: true}) {
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage,
			strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			out[name] = q
			out["requests."+name] = q
		case strings.Contains(string(name), "/"): // extended
			out["requests."+name] = q
		}
	}
	for name, q := range resource.PodLimits(p, resource.PodResourcesOptions{UseStatusResources: true}) {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			out["limits."+name] = q
		}
	}
}

// mustSay are the resources of which every container must say how much it takes when a quota limits them.
var mustSay = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
}

// Unsaid returns an error that lists the containers which do not say how much they take of what is limited, nil when all
// do.
func Unsaid(p *corev1.Pod, hard corev1.ResourceList) error {
	var missing []string
	for _, name := range mustSay {
		if _, limited := hard[name]; !limited {
			continue
		}
		if p.Spec.Resources != nil && says(*p.Spec.Resources, name) {
			continue // the pod says it for all of them
		}
		var silent []string
		for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
			if !says(c.Resources, name) {
				silent = append(silent, c.Name)
			}
		}
		if len(silent) > 0 {
			missing = append(missing, fmt.Sprintf("%s for: %s", name, strings.Join(silent, ",")))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("must specify %s", strings.Join(missing, "; "))
}

// says: the name is that of a quota.
func says(r corev1.ResourceRequirements, name corev1.ResourceName) bool {
	from := r.Requests
	if rest, ok := strings.CutPrefix(string(name), "limits."); ok {
		from, name = r.Limits, corev1.ResourceName(rest)
	}
	_, ok := from[corev1.ResourceName(strings.TrimPrefix(string(name), "requests."))]
	return ok
}
