// Package defaultbinder tells the API where a pod goes, by its binding subresource.
package defaultbinder

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// Plugin is DefaultBinder.
type Plugin struct{ API *client.API }

// Name implements framework.Plugin.
func (Plugin) Name() string { return "DefaultBinder" }

// Bind implements framework.Bind. The uid guards against a new pod of the same name.
func (p Plugin) Bind(ctx context.Context, pod *framework.Pod, node string) error {
	return client.Pods.Post(ctx, p.API, pod.Namespace, pod.Name, "binding", &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	})
}
