package server

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/authz/rbac/policy"
	"hardway/shared/daemon"
)

// rolesCommand is 'hardway-apiserver roles': it prints what the daemons of this project need, for kubectl apply, on an API server
// that does not have it from the beginning.
func rolesCommand() daemon.Program {
	return daemon.Program{Run: func(context.Context, *zap.Logger) error {
		for _, object := range roleObjects(policy.Own()) {
			text, err := yaml.Marshal(object)
			if err != nil {
				return fmt.Errorf("write roles: %w", err)
			}
			fmt.Printf("---\n%s", text) //nolint:forbidigo // a command's output
		}
		return nil
	}}
}

// roleObjects are the objects of a policy, each with its kind.
func roleObjects(p *policy.Policy) (out []runtime.Object) {
	for _, o := range p.ClusterRoles {
		o.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind("ClusterRole"))
		out = append(out, o)
	}
	for _, o := range p.ClusterRoleBindings {
		o.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"))
		out = append(out, o)
	}
	for _, o := range p.Roles {
		o.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind("Role"))
		out = append(out, o)
	}
	for _, o := range p.RoleBindings {
		o.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind("RoleBinding"))
		out = append(out, o)
	}
	return out
}
