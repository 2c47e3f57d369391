package core

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ReplicationController is what ReplicaSets were called first. Differs from upstream: it can only be read, so that
// clients that look for all workloads find none of these, and nobody makes one that no controller would act on.
var ReplicationController = resource.Define(scheme.Types, resource.Spec[corev1.ReplicationController]{
	Names: resource.Names{
		Version: "v1", Kind: "ReplicationController", Plural: "replicationcontrollers", Short: []string{"rc"}, Categories: []string{"all"},
	},
	Scope:      resource.Namespaced,
	StorageKey: "controllers",
	Verbs:      []string{"get", "list", "watch"},
	Default:    defaultReplicationController,
	Columns:    replicationControllerColumns(),
})

func defaultReplicationController(r *corev1.ReplicationController) {
	if r.Spec.Replicas == nil {
		one := int32(1)
		r.Spec.Replicas = &one
	}
	t := r.Spec.Template
	if t == nil {
		return
	}
	DefaultPodTemplate(t)
	if len(r.Spec.Selector) == 0 {
		r.Spec.Selector = maps.Clone(t.Labels)
	}
	if len(r.Labels) == 0 {
		r.Labels = maps.Clone(t.Labels)
	}
}

func replicationControllerColumns() []resource.Column[corev1.ReplicationController] {
	type rc = corev1.ReplicationController
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	containers := func(r *rc) []corev1.Container {
		if r.Spec.Template == nil {
			return nil
		}
		return r.Spec.Template.Spec.Containers
	}
	return []resource.Column[rc]{
		{Name: "Desired", Type: "integer", Describe: spec["replicas"], Value: func(r *rc) any { return int64(deref(r.Spec.Replicas)) }},
		{Name: "Current", Type: "integer", Describe: status["replicas"], Value: func(r *rc) any { return int64(r.Status.Replicas) }},
		{Name: "Ready", Type: "integer", Describe: status["readyReplicas"], Value: func(r *rc) any { return int64(r.Status.ReadyReplicas) }},
		show.Age[rc](),
		{Name: "Containers", Wide: true, Describe: "Names of each container in the template.", Value: func(r *rc) any { return show.Containers(containers(r)) }},
		{Name: "Images", Wide: true, Describe: "Images referenced by each container in the template.", Value: func(r *rc) any { return show.Images(containers(r)) }},
		{Name: "Selector", Wide: true, Describe: spec["selector"], Value: func(r *rc) any { return labels.FormatLabels(r.Spec.Selector) }},
	}
}
