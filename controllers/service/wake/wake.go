// Package wake finds the Services that a change of a pod or a node concerns, for the controllers that describe
// Services' endpoints.
package wake

import (
	corev1 "k8s.io/api/core/v1"

	"hardway/controllers/control"
	"hardway/controllers/service/selecting"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// OnPods adds the Services that select a pod to the queue whenever the pod changes in a way that matters to them.
func OnPods(pods control.Pods, services *client.Informer[corev1.Service], queue *control.Queue) {
	pods.OnChange(func(old, now *corev1.Pod) {
		switch {
		case old == nil:
			selected(services, queue, now)
		case now == nil:
			selected(services, queue, old)
		case selecting.Changed(old, now):
			selected(services, queue, old, now)
		}
	})
}

// OnNodes adds the Services of the pods on a node to the queue when the node appears, goes, or moves to another zone.
func OnNodes(nodes *client.Informer[corev1.Node], pods control.Pods, services *client.Informer[corev1.Service], queue *control.Queue) {
	nodes.OnChange(func(old, now *corev1.Node) {
		if old != nil && now != nil && old.Labels[corev1.LabelTopologyZone] == now.Labels[corev1.LabelTopologyZone] {
			return
		}
		name := ""
		if now != nil {
			name = now.Name
		} else {
			name = old.Name
		}
		for _, pod := range pods.OnNode(name) {
			selected(services, queue, pod)
		}
	})
}

// selected adds the Services that select any of the pods, which are of one namespace.
func selected(services *client.Informer[corev1.Service], queue *control.Queue, pods ...*corev1.Pod) {
	for svc := range services.InNamespace(pods[0].Namespace) {
		for _, pod := range pods {
			if selecting.Matches(svc, pod.Labels) {
				queue.Add(reconcile.KeyOf(svc))
				break
			}
		}
	}
}
