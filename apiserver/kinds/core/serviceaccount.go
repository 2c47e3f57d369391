package core

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// ServiceAccount is the identity of the processes in a pod. Its tokens are asked for through a subresource.
var ServiceAccount = resource.Define(scheme.Types, resource.Spec[corev1.ServiceAccount]{
	Names:                    resource.Names{Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"}},
	Scope:                    resource.Namespaced,
	ReturnDeleted:            true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[corev1.ServiceAccount]{
		show.Age[corev1.ServiceAccount](),
	},
	Subresources: []resource.Subresource{{
		Name: "token", Kind: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), Verbs: []string{"create"},
		New: func() runtime.Object { return &authenticationv1.TokenRequest{} },
		Answer: func(ctx context.Context, parent resource.Object, sent runtime.Object, judge resource.Judge) error {
			return judge.Issue(ctx, parent.(*corev1.ServiceAccount), sent.(*authenticationv1.TokenRequest)) //nolint:forcetypeassert // the server decodes into New
		},
	}},
})
