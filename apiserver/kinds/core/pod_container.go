package core

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

// Bounds of the rules for restarts.
const (
	maxRestartRules = 20
	maxExitCodes    = 255
)

// allContainers checks containers, init containers and ephemeral containers, and that their names differ.
func (c *podCheck) allContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	s := c.spec
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	names := map[string]bool{}
	unique := func(name string, at *field.Path) {
		if names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		if name != "" {
			names[name] = true
		}
	}
	for i := range s.Containers {
		ct, at := &s.Containers[i], path.Child("containers").Index(i)
		unique(ct.Name, at)
		errs = append(errs, c.container(ct, at)...)
		errs = append(errs, c.lifecycle(ct, at)...)
		errs = append(errs, restartRules(ct, at)...)
	}
	errs = append(errs, hostPortClashes(s.Containers, path.Child("containers"))...)
	for i := range s.InitContainers {
		ct, at := &s.InitContainers[i], path.Child("initContainers").Index(i)
		unique(ct.Name, at)
		errs = append(errs, c.container(ct, at)...)
		errs = append(errs, c.initContainer(ct, at)...)
		errs = append(errs, hostPortClashes(s.InitContainers[i:i+1], path.Child("initContainers"))...)
	}
	others := map[string]bool{}
	for name := range names {
		others[name] = true
	}
	for i := range s.EphemeralContainers {
		ec, at := &s.EphemeralContainers[i], path.Child("ephemeralContainers").Index(i)
		unique(ec.Name, at)
		errs = append(errs, c.container((*corev1.Container)(&ec.EphemeralContainerCommon), at)...)
		errs = append(errs, ephemeralContainer(ec, others, at)...)
	}
	return errs
}

// container checks what all sorts of containers have in common.
func (c *podCheck) container(ct *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ct.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, check.DNSLabel(ct.Name, path.Child("name"))...)
	}
	if ct.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	}
	errs = append(errs, check.OneOf(ct.TerminationMessagePolicy, path.Child("terminationMessagePolicy"),
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, containerPorts(ct.Ports, path.Child("ports"))...)
	errs = append(errs, c.env(ct.Env, path.Child("env"))...)
	errs = append(errs, envFrom(ct.EnvFrom, path.Child("envFrom"))...)
	errs = append(errs, c.mounts(ct, path.Child("volumeMounts"))...)
	errs = append(errs, c.devices(ct, path.Child("volumeDevices"))...)
	errs = append(errs, check.OneOf(ct.ImagePullPolicy, path.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validateResources(&ct.Resources, validateContainerResource, path.Child("resources"))...)
	errs = append(errs, c.resizePolicy(ct.ResizePolicy, path.Child("resizePolicy"))...)
	return append(errs, c.containerSecurity(ct.SecurityContext, path.Child("securityContext"))...)
}

func containerPorts(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			errs = append(errs, check.Each(at.Child("name"), p.Name, validation.IsValidPortName(p.Name))...)
			if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, check.Port(p.ContainerPort, at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, check.Port(p.HostPort, at.Child("hostPort"))...)
		}
		errs = append(errs, check.OneOf(p.Protocol, at.Child("protocol"), protocols...)...)
	}
	return errs
}

// hostPortClashes finds containers that want the same port of the host.
func hostPortClashes(cs []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range cs {
		for j, p := range cs[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if seen[key] {
				errs = append(errs, field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			seen[key] = true
		}
	}
	return errs
}

func (c *podCheck) resizePolicy(policies []corev1.ContainerResizePolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.ResourceName]bool{}
	for i, p := range policies {
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, check.OneOf(p.ResourceName, path, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, check.OneOf(p.RestartPolicy, path, corev1.NotRequired, corev1.RestartContainer)...)
		if c.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(path, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// lifecycle checks the probes and hooks of a container that stays.
func (c *podCheck) lifecycle(ct *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if l, at := ct.Lifecycle, path.Child("lifecycle"); l != nil {
		if l.PostStart != nil {
			errs = append(errs, c.handler(hookActions(l.PostStart), at.Child("postStart"))...)
		}
		if l.PreStop != nil {
			errs = append(errs, c.handler(hookActions(l.PreStop), at.Child("preStop"))...)
		}
		if l.StopSignal != nil {
			// Differs from upstream, where the field is in alpha and dropped without a word.
			errs = append(errs, field.Forbidden(at.Child("stopSignal"), "stop signals are not supported"))
		}
	}
	if p, at := ct.LivenessProbe, path.Child("livenessProbe"); p != nil {
		errs = append(errs, c.probe(p, true, at)...)
	}
	if p, at := ct.ReadinessProbe, path.Child("readinessProbe"); p != nil {
		errs = append(errs, c.probe(p, false, at)...)
		if p.TerminationGracePeriodSeconds != nil {
			errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
		}
	}
	if p, at := ct.StartupProbe, path.Child("startupProbe"); p != nil {
		errs = append(errs, c.probe(p, true, at)...)
	}
	return errs
}

func (c *podCheck) probe(p *corev1.Probe, oneSuccess bool, path *field.Path) field.ErrorList {
	actions := []action{}
	if p.Exec != nil {
		actions = append(actions, action{"exec", p.Exec})
	}
	if p.HTTPGet != nil {
		actions = append(actions, action{"httpGet", p.HTTPGet})
	}
	if p.TCPSocket != nil {
		actions = append(actions, action{"tcpSocket", p.TCPSocket})
	}
	if p.GRPC != nil {
		actions = append(actions, action{"grpc", p.GRPC})
	}
	errs := c.handler(actions, path)
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold},
	} {
		errs = append(errs, check.NonNegative(n.value, path.Child(n.name))...)
	}
	if g := p.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
	}
	if oneSuccess && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}

// action is one way of a probe or hook.
type action struct {
	name string
	what any
}

func hookActions(h *corev1.LifecycleHandler) []action {
	var actions []action
	if h.Exec != nil {
		actions = append(actions, action{"exec", h.Exec})
	}
	if h.HTTPGet != nil {
		actions = append(actions, action{"httpGet", h.HTTPGet})
	}
	if h.TCPSocket != nil {
		actions = append(actions, action{"tcpSocket", h.TCPSocket})
	}
	if h.Sleep != nil {
		actions = append(actions, action{"sleep", h.Sleep})
	}
	return actions
}

// handler wants exactly one action, and a good one.
func (c *podCheck) handler(actions []action, path *field.Path) field.ErrorList {
	if len(actions) == 0 {
		return field.ErrorList{field.Required(path, "must specify a handler type")}
	}
	errs := c.action(actions[0].what, path.Child(actions[0].name))
	for _, a := range actions[1:] {
		errs = append(errs, field.Forbidden(path.Child(a.name), "may not specify more than 1 handler type"))
	}
	return errs
}

func (c *podCheck) action(what any, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch a := what.(type) {
	case *corev1.ExecAction:
		if len(a.Command) == 0 {
			errs = append(errs, field.Required(path.Child("command"), ""))
		}
	case *corev1.HTTPGetAction:
		if a.Path == "" {
			errs = append(errs, field.Required(path.Child("path"), ""))
		}
		errs = append(errs, check.PortNumOrName(a.Port, path.Child("port"))...)
		errs = append(errs, check.Among(a.Scheme, path.Child("scheme"), corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
		for _, h := range a.HTTPHeaders {
			errs = append(errs, check.Each(path.Child("httpHeaders"), h.Name, validation.IsHTTPHeaderName(h.Name))...)
		}
	case *corev1.TCPSocketAction:
		errs = append(errs, check.PortNumOrName(a.Port, path.Child("port"))...)
	case *corev1.GRPCAction:
		errs = append(errs, check.PortNumOrName(intstr.FromInt32(a.Port), path.Child("port"))...)
	case *corev1.SleepAction:
		if g := c.spec.TerminationGracePeriodSeconds; g != nil && (a.Seconds < 0 || a.Seconds > *g) {
			errs = append(errs, field.Invalid(path, a.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *g)))
		}
	}
	return errs
}

// initContainer checks what differs for init containers: only those that stay running may have probes and hooks.
func (c *podCheck) initContainer(ct *corev1.Container, path *field.Path) field.ErrorList {
	errs := restartRules(ct, path)
	if restartable(ct) {
		return append(errs, c.lifecycle(ct, path)...)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"lifecycle", ct.Lifecycle != nil}, {"livenessProbe", ct.LivenessProbe != nil},
		{"readinessProbe", ct.ReadinessProbe != nil}, {"startupProbe", ct.StartupProbe != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
	for i, p := range ct.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(path.Child("resizePolicy").Index(i).Child("restartPolicy"), p.RestartPolicy,
				"must not be set to 'RestartContainer' for non-sidecar initContainers"))
		}
	}
	return errs
}

// restartRules checks a container's own restart policy.
func restartRules(ct *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at, rules := path.Child("restartPolicy"), path.Child("restartPolicyRules")
	if ct.RestartPolicy != nil {
		errs = append(errs, check.Among(*ct.RestartPolicy, at, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	} else if len(ct.RestartPolicyRules) > 0 {
		errs = append(errs, field.Required(at, "must specify restartPolicy when restart rules are used"))
	}
	if n := len(ct.RestartPolicyRules); n > maxRestartRules {
		errs = append(errs, field.TooMany(rules, n, maxRestartRules))
	}
	for i, rule := range ct.RestartPolicyRules {
		at := rules.Index(i)
		errs = append(errs, check.Among(rule.Action, at.Child("action"), corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		codes := at.Child("exitCodes")
		if rule.ExitCodes == nil {
			errs = append(errs, field.Required(codes, "must be specified"))
			continue
		}
		errs = append(errs, check.Among(rule.ExitCodes.Operator, codes.Child("operator"), corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if n := len(rule.ExitCodes.Values); n > maxExitCodes {
			errs = append(errs, field.TooMany(codes.Child("values"), n, maxExitCodes))
		}
	}
	return errs
}

// ephemeralFields are what an ephemeral container may set, by the names of the Go fields: whatever is added to the
// type later is forbidden until somebody thinks about it.
var ephemeralFields = strings.Fields(`Name Image Command Args WorkingDir EnvFrom Env VolumeMounts VolumeDevices TerminationMessagePath
	TerminationMessagePolicy ImagePullPolicy SecurityContext Stdin StdinOnce TTY`)

// ephemeralContainer checks a container that visits a running pod: nothing may depend on it.
func ephemeralContainer(ec *corev1.EphemeralContainer, others map[string]bool, path *field.Path) field.ErrorList {
	const not = "cannot be set for an Ephemeral Container"
	var errs field.ErrorList
	if t := ec.TargetContainerName; t != "" && !others[t] {
		errs = append(errs, field.NotFound(path.Child("targetContainerName"), t))
	}
	common := reflect.ValueOf(ec.EphemeralContainerCommon)
	for i := range common.NumField() {
		name := common.Type().Field(i).Name
		if !slices.Contains(ephemeralFields, name) && !common.Field(i).IsZero() {
			errs = append(errs, field.Forbidden(path.Child(strings.ToLower(name[:1])+name[1:]), not))
		}
	}
	for i, m := range ec.VolumeMounts {
		if m.SubPath != "" {
			errs = append(errs, field.Forbidden(path.Child("volumeMounts").Index(i).Child("subPath"), not))
		}
		if m.SubPathExpr != "" {
			errs = append(errs, field.Forbidden(path.Child("volumeMounts").Index(i).Child("subPathExpr"), not))
		}
	}
	return errs
}
