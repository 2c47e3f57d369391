// Package podresizevalidator refuses to resize a running pod to what its node can never give.
package podresizevalidator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"

	"hardway/apiserver/admission"
)

// Plugin is the plugin. Node finds a node, nil when there is none.
type Plugin struct {
	Node func(name string) *corev1.Node
}

// Name is upstream's.
func (Plugin) Name() string { return "PodResizeValidator" }

// Causes of refusals, in the Status.
const (
	causePlatform metav1.CauseType = "UnsupportedPlatform"
	causeCapacity metav1.CauseType = "NodeCapacity"
)

// Validate compares what the pod asks for with what its node has to give.
func (p Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	now, ok := a.Object.(*corev1.Pod)
	old, ok2 := a.Old.(*corev1.Pod)
	if !ok || !ok2 || a.Subresource != "resize" || now.Spec.NodeName == "" || equality.Semantic.DeepEqual(now.Spec, old.Spec) {
		return nil
	}
	node := p.Node(now.Spec.NodeName)
	if node == nil {
		return admission.Forbid(a, "node %q not found", now.Spec.NodeName)
	}
	if os, has := node.Labels[corev1.LabelOSStable]; has && os != "linux" {
		return refuse(a, causePlatform, fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os))
	}
	if err := fits(now, node); err != nil {
		return refuse(a, causeCapacity, err)
	}
	return nil
}

func refuse(a *admission.Attributes, cause metav1.CauseType, why error) error {
	err := admission.Forbid(a, "%w", why)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
	return err
}

func fits(pod *corev1.Pod, node *corev1.Node) error {
	asks, has := resource.PodRequests(pod, resource.PodResourcesOptions{}), node.Status.Allocatable
	var over []string
	if asks.Cpu().Cmp(*has.Cpu()) > 0 {
		over = append(over, fmt.Sprintf("cpu, requested: %d, allocatable: %d", asks.Cpu().MilliValue(), has.Cpu().MilliValue()))
	}
	if asks.Memory().Cmp(*has.Memory()) > 0 {
		over = append(over, fmt.Sprintf("memory, requested: %d, allocatable: %d", asks.Memory().Value(), has.Memory().Value()))
	}
	if len(over) == 0 {
		return nil
	}
	return errors.New("node didn't have enough allocatable resources: " + strings.Join(over, "; "))
}
