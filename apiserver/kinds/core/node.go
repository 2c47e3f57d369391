package core

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	kind "hardway/apiserver/resource"
)

// Node is a machine that runs pods.
var Node = kind.Define(scheme.Types, kind.Spec[corev1.Node]{
	Names:                    kind.Names{Version: "v1", Kind: "Node", Plural: "nodes", Short: []string{"no"}},
	Scope:                    kind.Cluster,
	StorageKey:               "minions",
	Default:                  defaultNode,
	SetStatus:                func(dst, src *corev1.Node) { src.Status.DeepCopyInto(&dst.Status) },
	StatusOnCreate:           true,
	Prepare:                  prepareNode,
	Validate:                 validateNode,
	ValidateUpdate:           validateNodeUpdate,
	ValidateStatusUpdate:     validateNodeStatus,
	Warnings:                 warnNode,
	AllowUnconditionalUpdate: true,
	Fields: map[string]func(*corev1.Node) string{
		"spec.unschedulable": func(n *corev1.Node) string {
			if n.Spec.Unschedulable {
				return "true"
			}
			return "false"
		},
	},
	Columns: nodeColumns(),
	Subresources: []kind.Subresource{
		{Name: "proxy", Kind: corev1.SchemeGroupVersion.WithKind("NodeProxyOptions"), Verbs: proxyVerbs},
	},
})

// proxyVerbs are what a proxied HTTP request may be.
var proxyVerbs = []string{"create", "delete", "get", "patch", "update"}

// defaultNode also brings podCIDR and podCIDRs together: where both are given and differ, the older one wins.
func defaultNode(n *corev1.Node) {
	if s := &n.Spec; s.PodCIDR == "" && len(s.PodCIDRs) > 0 {
		s.PodCIDR = s.PodCIDRs[0]
	} else if s.PodCIDR != "" && (len(s.PodCIDRs) == 0 || s.PodCIDRs[0] != s.PodCIDR) {
		s.PodCIDRs = []string{s.PodCIDR}
	}
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = maps.Clone(n.Status.Capacity)
	}
	roundToMilli(n.Status.Capacity)
	roundToMilli(n.Status.Allocatable)
}

// prepareNode drops the configuration from a ConfigMap, which no node supports any more.
func prepareNode(_ context.Context, n, old *corev1.Node) {
	if old == nil {
		n.Spec.ConfigSource = nil
		n.Status.Config = nil
	} else if old.Spec.ConfigSource == nil {
		n.Spec.ConfigSource = nil
	}
}

func validateNode(n *corev1.Node) field.ErrorList {
	errs := validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))
	errs = append(errs, validateNodeResources(n)...)
	path := field.NewPath("spec", "podCIDRs")
	for i, cidr := range n.Spec.PodCIDRs {
		errs = append(errs, check.CIDR(cidr, path.Index(i))...)
	}
	if len(errs) == 0 && !onePerFamily(n.Spec.PodCIDRs) {
		errs = append(errs, field.Invalid(path, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

// onePerFamily says that there are no two networks or addresses of the same IP family.
func onePerFamily(values []string) bool {
	seen := map[int]bool{}
	for _, v := range values {
		addr, _, _ := strings.Cut(v, "/")
		family := check.Family(addr)
		if seen[family] {
			return false
		}
		seen[family] = true
	}
	return true
}

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type key struct {
		effect corev1.TaintEffect
		key    string
	}
	seen := map[key]bool{}
	for i, t := range taints {
		at := path.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, strings.Join(msgs, ";")))
		}
		errs = append(errs, validateTaintEffect(t.Effect, false, at.Child("effect"))...)
		if k := (key{t.Effect, t.Key}); seen[k] {
			err := field.Duplicate(at, t)
			err.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, err)
		} else {
			seen[k] = true
		}
	}
	return errs
}

func validateTaintEffect(effect corev1.TaintEffect, mayBeEmpty bool, path *field.Path) field.ErrorList {
	if effect == "" && mayBeEmpty {
		return nil
	}
	return check.OneOf(effect, path, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for name, quantity := range list.of {
			errs = append(errs, validateQuantity(name, quantity, field.NewPath("status", list.name, string(name)))...)
		}
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateNodeStatus(n, old)
	spec := field.NewPath("spec")
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(spec.Child("providerID"), `node updates may not change providerID except from "" to valid`))
	}
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(spec.Child("externalID"), "may not be updated"))
	}
	return errs
}

func validateNodeStatus(n, _ *corev1.Node) field.ErrorList {
	errs := validateNodeResources(n)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		seen[a] = true
	}
	return errs
}

func warnNode(n, _ *corev1.Node) []string {
	var warnings []string
	if n.Spec.ConfigSource != nil {
		warnings = append(warnings, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		warnings = append(warnings, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return warnings
}

// roundToMilli rounds quantities up to a thousandth, the smallest unit the API keeps.
func roundToMilli(list corev1.ResourceList) {
	for name, quantity := range list {
		quantity.RoundUp(resource.Milli)
		list[name] = quantity
	}
}

func nodeColumns() []kind.Column[corev1.Node] {
	info, status := corev1.NodeSystemInfo{}.SwaggerDoc(), corev1.NodeStatus{}.SwaggerDoc()
	return []kind.Column[corev1.Node]{
		{Name: "Status", Describe: "The status of the node", Value: showNodeStatus},
		{Name: "Roles", Describe: "The roles of the node", Value: showNodeRoles},
		show.Age[corev1.Node](),
		{Name: "Version", Describe: info["kubeletVersion"], Value: func(n *corev1.Node) any { return n.Status.NodeInfo.KubeletVersion }},
		{Name: "Internal-IP", Wide: true, Describe: status["addresses"], Value: func(n *corev1.Node) any { return NodeAddress(n, corev1.NodeInternalIP) }},
		{Name: "External-IP", Wide: true, Describe: status["addresses"], Value: func(n *corev1.Node) any { return NodeAddress(n, corev1.NodeExternalIP) }},
		{Name: "OS-Image", Wide: true, Describe: info["osImage"], Value: func(n *corev1.Node) any { return show.Or(n.Status.NodeInfo.OSImage, show.Unknown) }},
		{Name: "Kernel-Version", Wide: true, Describe: info["kernelVersion"], Value: showNodeKernel},
		{Name: "Container-Runtime", Wide: true, Describe: info["containerRuntimeVersion"], Value: func(n *corev1.Node) any {
			return show.Or(n.Status.NodeInfo.ContainerRuntimeVersion, show.Unknown)
		}},
	}
}

func showNodeStatus(n *corev1.Node) any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// showNodeRoles reads the roles from the labels node-role.kubernetes.io/<role> and kubernetes.io/role=<role>.
func showNodeRoles(n *corev1.Node) any {
	roles := map[string]bool{}
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok {
			roles[role] = true
		} else if key == "kubernetes.io/role" {
			roles[value] = true
		}
	}
	delete(roles, "")
	return show.Or(strings.Join(slices.Sorted(maps.Keys(roles)), ","), show.None)
}

func showNodeKernel(n *corev1.Node) any {
	kernel := show.Or(n.Status.NodeInfo.KernelVersion, show.Unknown)
	if arch := n.Status.NodeInfo.Architecture; arch != "" {
		kernel += " (" + arch + ")"
	}
	return kernel
}

// NodeAddress is a node's first address of a type, or "<none>".
func NodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return show.None
}
