package server

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/podsource/static"
	"hardway/shared/client"
)

// mirrors is the API as package static needs it.
type mirrors struct{ *agent }

// Get implements static.API.
func (m mirrors) Get(namespace, name string) (*corev1.Pod, bool) {
	return m.informer.pods.Get(namespace, name)
}

// Mirrors implements static.API.
func (m mirrors) Mirrors() iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for p := range m.informer.pods.All() {
			if static.IsMirror(p) && !yield(p) {
				return
			}
		}
	}
}

// Create implements static.API.
func (m mirrors) Create(ctx context.Context, pod *corev1.Pod) error {
	_, err := client.Pods.Create(ctx, m.api, pod)
	return err
}

// Delete implements static.API.
func (m mirrors) Delete(ctx context.Context, pod *corev1.Pod) error {
	return client.Pods.Delete(ctx, m.api, pod.Namespace, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
}

// Node implements static.API.
func (m mirrors) Node() *corev1.Node { return m.object() }

// staticPods builds the source of pods from the manifest folder; nil if there is none.
func (a *agent) staticPods() *static.Pods {
	k := &a.cfg.Kubelet
	if k.StaticPodPath == "" {
		return nil
	}
	p := static.New(k.StaticPodPath, a.cfg.Hostname, k.FileCheckFrequency.Duration, a.workers, mirrors{a}, a.log.Named("static"))
	a.informer.pods.OnChange(func(old, now *corev1.Pod) {
		switch {
		case now == nil && static.IsMirror(old):
			p.MirrorChanged()
		case old == nil && static.IsMirror(now):
			// A new mirror knows nothing yet of the pod that it shows.
			uid := types.UID(now.Annotations[static.Mirror])
			a.writer.Forget(uid)
			a.workers.Wake(uid)
		}
	})
	return p
}

// mirrorPatch turns the patch of a static pod's status into one of its mirror: the two differ in their uid.
func (a *agent) mirrorPatch(namespace, name string, patch []byte) ([]byte, error) {
	have, ok := a.informer.pods.Get(namespace, name)
	if !ok || !static.IsMirror(have) {
		return patch, nil
	}
	var p struct {
		Metadata struct {
			UID types.UID `json:"uid"`
		} `json:"metadata"`
		Status json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, fmt.Errorf("status of static pod %s/%s: %w", namespace, name, err)
	}
	p.Metadata.UID = have.UID
	return json.Marshal(p)
}
