package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// PodTemplate keeps a pod template for others to use. Nothing acts on it.
var PodTemplate = resource.Define(scheme.Types, resource.Spec[corev1.PodTemplate]{
	Names:       resource.Names{Version: "v1", Kind: "PodTemplate", Plural: "podtemplates"},
	Scope:       resource.Namespaced,
	Default:     func(t *corev1.PodTemplate) { DefaultPodTemplate(&t.Template) },
	SpecChanged: func(t, old *corev1.PodTemplate) bool { return !equality.Semantic.DeepEqual(t.Template, old.Template) },
	Validate: func(t *corev1.PodTemplate) field.ErrorList {
		return ValidatePodTemplate(&t.Template, field.NewPath("template"))
	},
	Warnings: func(t, old *corev1.PodTemplate) []string {
		if old != nil && equality.Semantic.DeepEqual(t.Template, old.Template) {
			return nil
		}
		return WarnPodTemplate(&t.Template, field.NewPath("template"))
	},
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[corev1.PodTemplate]{
		{Name: "Containers", Describe: "Names of each container in the template.", Value: func(t *corev1.PodTemplate) any {
			return show.Containers(t.Template.Spec.Containers)
		}},
		{Name: "Images", Describe: "Images referenced by each container in the template.", Value: func(t *corev1.PodTemplate) any {
			return show.Images(t.Template.Spec.Containers)
		}},
		{Name: "Pod Labels", Describe: "The labels for the pod template.", Value: func(t *corev1.PodTemplate) any {
			return labels.FormatLabels(t.Template.Labels)
		}},
	},
})
