package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// pod is one that a node runs.
type pod struct {
	started, stopping bool
}

// follow runs the nodes' pods until ctx ends.
func (c *cluster) follow(ctx context.Context) error {
	watch := cache.NewFilteredListWatchFromClient(c.api.CoreV1().RESTClient(), "pods", metav1.NamespaceAll,
		func(o *metav1.ListOptions) { o.FieldSelector = "spec.nodeName!=" })
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{ListerWatcher: watch, ObjectType: &corev1.Pod{}, Transform: trim,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { c.see(ctx, obj.(*corev1.Pod)) },
			UpdateFunc: func(_, obj any) { c.see(ctx, obj.(*corev1.Pod)) },
			DeleteFunc: func(obj any) {
				if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = gone.Obj
				}
				c.forget(obj.(*corev1.Pod))
			},
		}})
	informer.RunWithContext(ctx)
	return nil
}

// trim keeps what a hollow node looks at.
func trim(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
		DeletionTimestamp: p.DeletionTimestamp}, Spec: corev1.PodSpec{NodeName: p.Spec.NodeName}, Status: corev1.PodStatus{Phase: p.Status.Phase}}
	for _, container := range p.Spec.Containers {
		kept.Spec.Containers = append(kept.Spec.Containers, corev1.Container{Name: container.Name, Image: container.Image})
	}
	return kept, nil
}

// see starts a pod that is new and stops one that is to go, each once.
func (c *cluster) see(ctx context.Context, p *corev1.Pod) {
	if !strings.HasPrefix(p.Spec.NodeName, c.o.prefix+"-") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.pods[string(p.UID)]
	if known == nil {
		known = &pod{started: p.Status.Phase == corev1.PodRunning}
		c.pods[string(p.UID)] = known
		if known.started {
			c.running.Add(1)
		}
	}
	switch {
	case p.DeletionTimestamp != nil && !known.stopping:
		known.stopping = true
		time.AfterFunc(c.o.stop, func() { c.write(ctx, func() error { return c.remove(ctx, p) }) })
	case p.DeletionTimestamp == nil && !known.started:
		known.started = true
		c.running.Add(1)
		time.AfterFunc(c.o.start, func() { c.write(ctx, func() error { return c.runs(ctx, p) }) })
	}
}

func (c *cluster) forget(p *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.pods[string(p.UID)]; known != nil && known.started {
		c.running.Add(-1)
	}
	delete(c.pods, string(p.UID))
}

// runs says that a pod runs and is ready, as a node agent does: one patch of its status.
func (c *cluster) runs(ctx context.Context, p *corev1.Pod) error {
	var states []string
	for _, container := range p.Spec.Containers {
		states = append(states, fmt.Sprintf(`{"name":%q,"image":%q,"imageID":"","containerID":"hollow://%s","ready":true,"started":true,"restartCount":0,"state":{"running":{"startedAt":%q}}}`,
			container.Name, container.Image, p.UID, time.Now().UTC().Format(time.RFC3339)))
	}
	var conditions []string
	for _, kind := range []string{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		conditions = append(conditions, fmt.Sprintf(`{"type":%q,"status":"True","lastTransitionTime":%q}`, kind, time.Now().UTC().Format(time.RFC3339)))
	}
	ip := address(p.UID)
	patch := fmt.Sprintf(`{"metadata":{"uid":%q},"status":{"phase":"Running","startTime":%q,"podIP":%q,"podIPs":[{"ip":%q}],"conditions":[%s],"containerStatuses":[%s]}}`,
		p.UID, time.Now().UTC().Format(time.RFC3339), ip, ip, strings.Join(conditions, ","), strings.Join(states, ","))
	_, err := c.api.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	return err
}

// address is one of 10.0.0.0/9 for a pod. Two pods may have the same one: nobody talks to them.
func address(uid types.UID) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid))
	n := h.Sum32()
	return fmt.Sprintf("10.%d.%d.%d", n>>16&127, n>>8&255, n&255)
}

// remove says that nothing of a pod is left.
func (c *cluster) remove(ctx context.Context, p *corev1.Pod) error {
	return c.api.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
}
