package core

import (
	corev1 "k8s.io/api/core/v1"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ServiceAccount is the identity of the processes in a pod.
var ServiceAccount = resource.Define(scheme.Types, resource.Spec[corev1.ServiceAccount]{
	Names:                    resource.Names{Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"}},
	Scope:                    resource.Namespaced,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[corev1.ServiceAccount]{
		show.Age[corev1.ServiceAccount](),
	},
})
