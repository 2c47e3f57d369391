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
	return client.Pods.Post(ctx, p.API, pod.Namespace, pod.Name, "binding", body(pod, node))
}

// BindAll implements framework.BindAll.
func (p Plugin) BindAll(ctx context.Context, list []framework.Binding) {
	calls := make([]*client.Call, len(list))
	for i := range list {
		pod := list[i].Pod
		calls[i] = &client.Call{Path: "/api/v1/namespaces/" + pod.Namespace + "/pods/" + pod.Name + "/binding", Body: body(pod, list[i].Node)}
	}
	p.API.PostAll(ctx, corev1.SchemeGroupVersion, calls)
	for i, c := range calls {
		list[i].Err = c.Err
	}
}

func body(pod *framework.Pod, node string) *corev1.Binding {
	return &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
}
