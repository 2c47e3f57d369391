package server

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/scheduler/framework"
	"hardway/shared/client"
)

// unfinished selects the pods that take or want a node.
const unfinished = "status.phase!=Succeeded,status.phase!=Failed"

// sources are the informers that the scheduler reads. Those that the apiserver serves are waited for before anything is
// decided; one that it does not serve is asked again now and then, and what needs it stays pending until then.
type sources struct {
	must, may *client.Informers
	api       *client.API
	log       *zap.Logger
	whole     bool // nodes and pods are kept whole, for extenders to read

	services     *client.Informer[corev1.Service]
	controllers  *client.Informer[corev1.ReplicationController]
	replicaSets  *client.Informer[appsv1.ReplicaSet]
	statefulSets *client.Informer[appsv1.StatefulSet]
	budgets      *client.Informer[policyv1.PodDisruptionBudget]
}

func newSources(api *client.API, log *zap.Logger) *sources {
	return &sources{must: client.NewInformers(api, log), may: client.NewInformers(api, log), api: api, log: log}
}

// follow makes the informer of a kind that an apiserver may do without.
func follow[T, L any](ctx context.Context, s *sources, k client.Kind[T, L], o client.Options) *client.Informer[T] {
	_, err := k.List(ctx, s.api, "", metav1.ListOptions{Limit: 1})
	if apierrors.IsNotFound(err) {
		s.log.Warn("the apiserver does not serve a kind; what needs it has to wait", zap.String("kind", k.Name))
		return k.Informer(s.may, o)
	}
	return k.Informer(s.must, o)
}

// open makes all informers. ctx bounds the questions of what the apiserver serves.
func (s *sources) open(ctx context.Context, l *loop) {
	nodeForm, podForm := slimNode, slimPod
	if s.whole {
		nodeForm, podForm = slim, slim
	}
	nodes := client.Nodes.Informer(s.must, client.Options{Transform: nodeForm})
	pods := client.Pods.Informer(s.must, client.Options{FieldSelector: unfinished, Transform: podForm})
	namespaces := client.Namespaces.Informer(s.must, client.Options{})
	s.services = follow(ctx, s, client.Services, client.Options{})
	s.controllers = follow(ctx, s, client.ReplicationControllers, client.Options{Transform: func(o any) (any, error) {
		if c, ok := o.(*corev1.ReplicationController); ok {
			return &corev1.ReplicationController{ObjectMeta: slimMeta(&c.ObjectMeta), Spec: corev1.ReplicationControllerSpec{Selector: c.Spec.Selector}}, nil
		}
		return o, nil
	}})
	s.replicaSets = follow(ctx, s, client.ReplicaSets, client.Options{Transform: func(o any) (any, error) {
		if c, ok := o.(*appsv1.ReplicaSet); ok {
			return &appsv1.ReplicaSet{ObjectMeta: slimMeta(&c.ObjectMeta), Spec: appsv1.ReplicaSetSpec{Selector: c.Spec.Selector}}, nil
		}
		return o, nil
	}})
	s.statefulSets = follow(ctx, s, client.StatefulSets, client.Options{Transform: func(o any) (any, error) {
		if c, ok := o.(*appsv1.StatefulSet); ok {
			return &appsv1.StatefulSet{ObjectMeta: slimMeta(&c.ObjectMeta), Spec: appsv1.StatefulSetSpec{Selector: c.Spec.Selector}}, nil
		}
		return o, nil
	}})
	s.budgets = follow(ctx, s, client.PodDisruptionBudgets, client.Options{})

	nodes.OnChange(func(old, now *corev1.Node) {
		l.mail.post(func(t time.Time) {
			if now == nil {
				l.cluster.RemoveNode(old.Name)
				return
			}
			l.nodeChanged(old, now, t)
		})
	})
	pods.OnChange(func(old, now *corev1.Pod) {
		l.mail.post(func(t time.Time) { l.podChanged(old, now, t) })
	})
	namespaces.OnChange(func(old, now *corev1.Namespace) {
		l.mail.post(func(time.Time) {
			if now == nil {
				l.cluster.RemoveNamespace(old.Name)
				return
			}
			l.cluster.SetNamespace(now.Name, now.Labels)
		})
	})
	s.followStorage(ctx, l)
	s.followDevices(ctx, l)
	l.cluster.View.Owners = s.owners
	l.synced = func() bool { return nodes.HasSynced() && pods.HasSynced() && namespaces.HasSynced() }
}

// run keeps the informers going until ctx ends.
func (s *sources) run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.may.Run(ctx) }()
	err := s.must.Run(ctx)
	<-done //nolint:errcheck // ends with ctx only
	return err
}

// ready is a check for /readyz.
func (l *loop) ready(context.Context) error {
	if !l.synced() {
		return fmt.Errorf("nodes and pods have not arrived yet")
	}
	return nil
}

// owners is the selector of the Services and the controller that select a pod; nil when there are none.
func (s *sources) owners(p *framework.Pod) labels.Selector {
	set := labels.Set{}
	for service := range s.services.InNamespace(p.Namespace) {
		selector := service.Spec.Selector
		if selector != nil && labels.SelectorFromValidatedSet(selector).Matches(labels.Set(p.Labels)) {
			set = labels.Merge(set, selector)
		}
	}
	owner := metav1.GetControllerOfNoCopy(p.Pod)
	if owner == nil {
		return selectorOrNil(labels.SelectorFromValidatedSet(set))
	}
	var own *metav1.LabelSelector
	switch owner.APIVersion + " " + owner.Kind {
	case "v1 ReplicationController":
		if c, ok := s.controllers.Get(p.Namespace, owner.Name); ok {
			set = labels.Merge(set, c.Spec.Selector)
		}
	case "apps/v1 ReplicaSet":
		if c, ok := s.replicaSets.Get(p.Namespace, owner.Name); ok {
			own = c.Spec.Selector
		}
	case "apps/v1 StatefulSet":
		if c, ok := s.statefulSets.Get(p.Namespace, owner.Name); ok {
			own = c.Spec.Selector
		}
	}
	selector := labels.SelectorFromValidatedSet(set)
	if other, err := metav1.LabelSelectorAsSelector(own); own != nil && err == nil {
		if requirements, ok := other.Requirements(); ok {
			selector = selector.Add(requirements...)
		}
	}
	return selectorOrNil(selector)
}

func selectorOrNil(s labels.Selector) labels.Selector {
	if s.Empty() {
		return nil
	}
	return s
}

// budgetsIn are the disruption budgets of a namespace.
func (s *sources) budgetsIn(namespace string) (out []*policyv1.PodDisruptionBudget) {
	for b := range s.budgets.InNamespace(namespace) {
		out = append(out, b)
	}
	return out
}

// slimMeta keeps of an object's metadata what names it.
func slimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

// slimPod drops what scheduling never reads: it is most of a pod.
func slimPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	p.ManagedFields = nil
	delete(p.Annotations, corev1.LastAppliedConfigAnnotation)
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			c := &list[i]
			list[i] = corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, Resources: c.Resources, RestartPolicy: c.RestartPolicy, RestartPolicyRules: c.RestartPolicyRules, ResizePolicy: c.ResizePolicy}
		}
	}
	for i := range p.Status.ContainerStatuses {
		c := &p.Status.ContainerStatuses[i]
		p.Status.ContainerStatuses[i] = corev1.ContainerStatus{Name: c.Name, Resources: c.Resources, AllocatedResources: c.AllocatedResources}
	}
	return p, nil
}

// slimNode drops the heartbeat of a node, so that one that merely lives on is seen not to have changed.
func slimNode(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	n.ManagedFields = nil
	n.Status.Conditions, n.Status.VolumesInUse, n.Status.Addresses = nil, nil, nil
	return n, nil
}
