package admit

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Unsupported returns an error that names every field of the pod which this node would have to ignore. It is not a
// refusal for good: a pod that fails at once would be replaced at once, over and over, by the controller that owns it.
func Unsupported(pod *corev1.Pod) error {
	var fields []string
	refuse := func(when bool, field string) {
		if when {
			fields = append(fields, field)
		}
	}
	s := &pod.Spec
	refuse(s.HostUsers != nil && !*s.HostUsers, "spec.hostUsers: false")
	refuse(len(s.ResourceClaims) > 0, "spec.resourceClaims")
	if c := s.SecurityContext; c != nil {
		refuse(c.WindowsOptions != nil, "spec.securityContext.windowsOptions")
		refuse(confined(c.AppArmorProfile), "spec.securityContext.appArmorProfile")
	}
	for i := range s.InitContainers {
		container(&s.InitContainers[i], fmt.Sprintf("spec.initContainers[%d]", i), refuse)
	}
	for i := range s.Containers {
		container(&s.Containers[i], fmt.Sprintf("spec.containers[%d]", i), refuse)
	}
	if len(fields) == 0 {
		return nil
	}
	return fmt.Errorf("this node does not support %s", strings.Join(fields, ", "))
}

func container(c *corev1.Container, at string, refuse func(bool, string)) {
	refuse(len(c.Resources.Claims) > 0, at+".resources.claims")
	for name := range c.Resources.Limits {
		refuse(strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix), at+".resources.limits."+string(name))
	}
	for _, r := range c.RestartPolicyRules {
		refuse(r.Action == corev1.ContainerRestartRuleActionRestartAllContainers, at+".restartPolicyRules: RestartAllContainers")
	}
	for _, e := range c.Env {
		refuse(e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil, at+".env["+e.Name+"].valueFrom.fileKeyRef")
	}
	if s := c.SecurityContext; s != nil {
		refuse(s.WindowsOptions != nil, at+".securityContext.windowsOptions")
		refuse(confined(s.AppArmorProfile), at+".securityContext.appArmorProfile")
	}
}

// confined says whether an AppArmor profile asks for more than nothing. The runtime loads none.
func confined(p *corev1.AppArmorProfile) bool {
	return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
}
