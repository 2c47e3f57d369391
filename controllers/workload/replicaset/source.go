package replicaset

import (
	"context"
	"iter"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/controllers/control"
	"hardway/controllers/owner"
	"hardway/shared/client"
)

// source is where the sets come from and where their status goes. A ReplicationController is a ReplicaSet of an earlier
// day: seen through here they are the same.
type source struct {
	kind     schema.GroupVersionKind
	name     string // of the queue
	flag     string // how many workers
	get      func(namespace, name string) (*appsv1.ReplicaSet, bool)
	all      func() iter.Seq[*appsv1.ReplicaSet]
	within   func(namespace string) iter.Seq[*appsv1.ReplicaSet]
	onChange func(func(old, now *appsv1.ReplicaSet))
	fresh    func(ctx context.Context, namespace, name string) (metav1.Object, error)
	report   func(ctx context.Context, set *appsv1.ReplicaSet) error
	// family returns the pods of all sets of the same owner: they tell where siblings crowd.
	family func(set *appsv1.ReplicaSet) []*corev1.Pod
}

func replicaSets(env control.Env) source {
	sets, pods := env.ReplicaSets(), env.Pods()
	return source{
		kind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), name: "replicaset", flag: "concurrent-replicaset-syncs",
		get: sets.Get, all: sets.All, within: sets.InNamespace, onChange: sets.OnChange,
		fresh: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return client.ReplicaSets.Get(ctx, env.API, namespace, name)
		},
		report: func(ctx context.Context, set *appsv1.ReplicaSet) error {
			_, err := client.ReplicaSets.Update(ctx, env.API, set, "status")
			return err
		},
		family: func(set *appsv1.ReplicaSet) []*corev1.Pod {
			uid := owner.ControllerUID(set)
			if uid == "" {
				return pods.OwnedBy(set.UID)
			}
			var out []*corev1.Pod
			for _, sibling := range sets.OwnedBy(uid) {
				out = append(out, pods.OwnedBy(sibling.UID)...)
			}
			return out
		},
	}
}

func replicationControllers(env control.Env) source {
	sets, pods := client.ReplicationControllers.Informer(env.Informers, client.Options{}), env.Pods()
	return source{
		kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"), name: "replicationmanager", flag: "concurrent-rc-syncs",
		get: func(namespace, name string) (*appsv1.ReplicaSet, bool) {
			rc, ok := sets.Get(namespace, name)
			if !ok {
				return nil, false
			}
			return fromController(rc), true
		},
		all:    func() iter.Seq[*appsv1.ReplicaSet] { return converted(sets.All()) },
		within: func(namespace string) iter.Seq[*appsv1.ReplicaSet] { return converted(sets.InNamespace(namespace)) },
		onChange: func(f func(old, now *appsv1.ReplicaSet)) {
			sets.OnChange(func(old, now *corev1.ReplicationController) { f(fromController(old), fromController(now)) })
		},
		fresh: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return client.ReplicationControllers.Get(ctx, env.API, namespace, name)
		},
		report: func(ctx context.Context, set *appsv1.ReplicaSet) error {
			rc, ok := sets.Get(set.Namespace, set.Name)
			if !ok || rc.UID != set.UID {
				return nil
			}
			_, err := client.ReplicationControllers.Update(ctx, env.API, withStatus(rc, set), "status")
			return err
		},
		family: func(set *appsv1.ReplicaSet) []*corev1.Pod { return pods.OwnedBy(set.UID) },
	}
}

func converted(in iter.Seq[*corev1.ReplicationController]) iter.Seq[*appsv1.ReplicaSet] {
	return func(yield func(*appsv1.ReplicaSet) bool) {
		for rc := range in {
			if !yield(fromController(rc)) {
				return
			}
		}
	}
}

// fromController shows a ReplicationController as a ReplicaSet; nil stays nil. Its type says what it really is, so that
// Events name the right object. Shared parts are only read.
func fromController(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	if rc == nil {
		return nil
	}
	set := &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ReplicationController"},
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds, Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		set.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		set.Status.Conditions = append(set.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return set
}

// withStatus is the controller with the status of its likeness.
func withStatus(rc *corev1.ReplicationController, set *appsv1.ReplicaSet) *corev1.ReplicationController {
	out := *rc
	out.ResourceVersion = set.ResourceVersion
	s := set.Status
	out.Status = corev1.ReplicationControllerStatus{
		Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas, ReadyReplicas: s.ReadyReplicas,
		AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}
	for _, c := range s.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return &out
}
