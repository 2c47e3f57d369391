package ingress

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/shared/client"
)

// publish writes the addresses of the nodes that serve into the Ingresses' status. Of these nodes one writes, the first by name that is ready; they
// need not elect it, since all see the same list, and two that write for a moment write the same.
func (t *tables) publish(ctx context.Context) error {
	nodes := slices.SortedFunc(t.p.nodes.All(), func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	nodes = slices.DeleteFunc(nodes, func(n *corev1.Node) bool { return !ready(n) })
	if len(nodes) == 0 || nodes[0].Name != t.p.cfg.Node {
		return nil
	}
	var wanted []networkingv1.IngressLoadBalancerIngress
	for _, n := range nodes {
		if a := addressOf(n); a != "" {
			wanted = append(wanted, networkingv1.IngressLoadBalancerIngress{IP: a})
		}
	}
	var failures []error
	for _, in := range t.now.Load().Served {
		if reflect.DeepEqual(in.Status.LoadBalancer.Ingress, wanted) {
			continue
		}
		next := in.DeepCopy()
		next.Status.LoadBalancer.Ingress = wanted
		if _, err := client.Ingresses.Update(ctx, t.p.api, next, "status"); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			failures = append(failures, err) // after a conflict, the newer Ingress is on its way here
		}
	}
	return errors.Join(failures...)
}

func ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue && n.DeletionTimestamp == nil
		}
	}
	return false
}

// addressOf is where clients reach a node: its ExternalIP, or else its InternalIP.
func addressOf(n *corev1.Node) string {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == kind {
				return a.Address
			}
		}
	}
	return ""
}
