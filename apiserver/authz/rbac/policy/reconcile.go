package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"

	"hardway/apiserver/resource"
)

// Registry is where objects of one kind are kept; hardway/apiserver/registry has it.
type Registry interface {
	Find(ctx context.Context, namespace, name string) (resource.Object, error)
	Create(ctx context.Context, obj resource.Object, o *metav1.CreateOptions) (resource.Object, []string, error)
	Update(ctx context.Context, namespace, name, sub string, change func(current resource.Object) (resource.Object, error),
		o *metav1.UpdateOptions, createIfAbsent bool) (resource.Object, bool, []string, error)
	Delete(ctx context.Context, namespace, name string, o *metav1.DeleteOptions) (resource.Object, bool, error)
}

// atOnce is how many objects are written at the same time: etcd puts writes that arrive together onto disk together.
const atOnce = 32

// Reconcile makes what is missing, and completes what is there: rules and subjects of the policy are added, nothing that
// somebody else has added is taken away. Objects whose annotation AutoUpdate is not "true" are left alone. A binding that
// names another role is made anew, because its role cannot be changed. Roles come before bindings.
func (p *Policy) Reconcile(ctx context.Context, of func(schema.GroupResource) Registry) error {
	reg := func(plural string) Registry {
		return of(schema.GroupResource{Group: rbacv1.GroupName, Resource: plural})
	}
	roles, gctx := errgroup.WithContext(ctx)
	roles.SetLimit(atOnce)
	for _, want := range p.ClusterRoles {
		roles.Go(func() error { return ensure(gctx, reg("clusterroles"), want, completeClusterRole(want)) })
	}
	for _, want := range p.Roles {
		roles.Go(func() error { return ensure(gctx, reg("roles"), want, completeRole(want)) })
	}
	if err := roles.Wait(); err != nil {
		return err
	}
	bindings, gctx := errgroup.WithContext(ctx)
	bindings.SetLimit(atOnce)
	for _, want := range p.ClusterRoleBindings {
		bindings.Go(func() error { return ensureBinding(gctx, reg("clusterrolebindings"), want) })
	}
	for _, want := range p.RoleBindings {
		bindings.Go(func() error { return ensureBinding(gctx, reg("rolebindings"), want) })
	}
	return bindings.Wait()
}

func completeRole(want *rbacv1.Role) func(resource.Object) resource.Object {
	return func(have resource.Object) resource.Object {
		role, ok := have.(*rbacv1.Role)
		if !ok {
			return nil
		}
		missing := lacking(role.Rules, want.Rules)
		if len(missing) == 0 {
			return nil
		}
		role.Rules = append(role.Rules, missing...)
		return role
	}
}

// ensure creates an object, or lets complete change the one that is there: nil when it is complete.
func ensure(ctx context.Context, r Registry, want resource.Object, complete func(have resource.Object) resource.Object) error {
	have, err := r.Find(ctx, want.GetNamespace(), want.GetName())
	switch {
	case apierrors.IsNotFound(err):
		_, _, err = r.Create(ctx, want.DeepCopyObject().(resource.Object), nil) //nolint:forcetypeassert // a copy is of the same type
		if apierrors.IsAlreadyExists(err) {
			return nil // another apiserver was faster
		}
	case err == nil && have.GetAnnotations()[AutoUpdate] == "true" && complete(have.DeepCopyObject().(resource.Object)) != nil: //nolint:forcetypeassert // a copy is of the same type
		_, _, _, err = r.Update(ctx, want.GetNamespace(), want.GetName(), "", func(current resource.Object) (resource.Object, error) {
			if changed := complete(current); changed != nil {
				return changed, nil
			}
			return current, nil
		}, nil, false)
	}
	if err != nil {
		return fmt.Errorf("reconcile %T %s: %w", want, want.GetName(), err)
	}
	return nil
}

func completeClusterRole(want *rbacv1.ClusterRole) func(resource.Object) resource.Object {
	return func(have resource.Object) resource.Object {
		role, ok := have.(*rbacv1.ClusterRole)
		if !ok {
			return nil
		}
		changed := false
		if missing := lacking(role.Rules, want.Rules); len(missing) > 0 {
			role.Rules, changed = append(role.Rules, missing...), true
		}
		for key, value := range want.Labels {
			if role.Labels[key] != value {
				if role.Labels == nil {
					role.Labels = map[string]string{}
				}
				role.Labels[key], changed = value, true
			}
		}
		if want.AggregationRule != nil && role.AggregationRule == nil {
			role.AggregationRule, changed = want.AggregationRule.DeepCopy(), true
		}
		if !changed {
			return nil
		}
		return role
	}
}

// lacking are the rules of want that have does not cover.
func lacking(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	_, missing := validation.Covers(have, want)
	return missing
}

// ensureBinding creates a binding, adds missing subjects, or makes it anew for another role.
func ensureBinding(ctx context.Context, r Registry, want resource.Object) error {
	have, err := r.Find(ctx, want.GetNamespace(), want.GetName())
	if err == nil && have.GetAnnotations()[AutoUpdate] == "true" && *refOf(have) != *refOf(want) {
		uid := have.GetUID()
		if _, _, err := r.Delete(ctx, want.GetNamespace(), want.GetName(), &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("replace binding %s: %w", want.GetName(), err)
		}
	}
	return ensure(ctx, r, want, func(have resource.Object) resource.Object {
		subjects := subjectsOf(have)
		changed := false
		for _, s := range *subjectsOf(want) {
			if !slices.ContainsFunc(*subjects, func(h rbacv1.Subject) bool { return equality.Semantic.DeepEqual(h, s) }) {
				*subjects, changed = append(*subjects, s), true
			}
		}
		if labels := have.GetLabels(); labels[Bootstrapping] != defaults {
			labels = maps.Clone(labels)
			if labels == nil {
				labels = map[string]string{}
			}
			labels[Bootstrapping], changed = defaults, true
			have.SetLabels(labels)
		}
		if !changed {
			return nil
		}
		return have
	})
}

func subjectsOf(o resource.Object) *[]rbacv1.Subject {
	switch b := o.(type) {
	case *rbacv1.ClusterRoleBinding:
		return &b.Subjects
	case *rbacv1.RoleBinding:
		return &b.Subjects
	}
	return &[]rbacv1.Subject{}
}

func refOf(o resource.Object) *rbacv1.RoleRef {
	switch b := o.(type) {
	case *rbacv1.ClusterRoleBinding:
		return &b.RoleRef
	case *rbacv1.RoleBinding:
		return &b.RoleRef
	}
	return &rbacv1.RoleRef{}
}
