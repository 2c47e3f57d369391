// Package legacy lets manifests from years ago apply: it gives kinds the versions that upstream has since removed.
//
// An old version is a way in and out, nothing is stored in it. Old and new objects have nearly the same JSON, so a
// conversion is a copy through it, with what moved put in its place by a fix. What an old version filled in differently
// is filled in here too. Every use is answered with a Warning that names today's version.
package legacy

import (
	"encoding/json"
	"fmt"

	appsv1beta1 "k8s.io/api/apps/v1beta1"
	appsv1beta2 "k8s.io/api/apps/v1beta2"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/resource"
)

// old is one kind in one removed version.
type old struct {
	group, version string
	obj, list      runtime.Object
	in, out        func(doc map[string]any) // fixes, nil: none
}

// versions are the removed versions by today's group and kind.
var versions = map[schema.GroupKind][]old{
	{Group: "apps", Kind: "Deployment"}: {
		{"apps", "v1beta2", &appsv1beta2.Deployment{}, &appsv1beta2.DeploymentList{}, nil, nil},
		{"apps", "v1beta1", &appsv1beta1.Deployment{}, &appsv1beta1.DeploymentList{}, chosen, nil},
		{"extensions", "v1beta1", &extensionsv1beta1.Deployment{}, &extensionsv1beta1.DeploymentList{}, chosen, nil},
	},
	{Group: "apps", Kind: "ReplicaSet"}: {
		{"apps", "v1beta2", &appsv1beta2.ReplicaSet{}, &appsv1beta2.ReplicaSetList{}, nil, nil},
		{"extensions", "v1beta1", &extensionsv1beta1.ReplicaSet{}, &extensionsv1beta1.ReplicaSetList{}, chosen, nil},
	},
	{Group: "apps", Kind: "DaemonSet"}: {
		{"apps", "v1beta2", &appsv1beta2.DaemonSet{}, &appsv1beta2.DaemonSetList{}, nil, nil},
		{"extensions", "v1beta1", &extensionsv1beta1.DaemonSet{}, &extensionsv1beta1.DaemonSetList{}, both(chosen, onDelete), nil},
	},
	{Group: "apps", Kind: "StatefulSet"}: {
		{"apps", "v1beta2", &appsv1beta2.StatefulSet{}, &appsv1beta2.StatefulSetList{}, nil, nil},
		{"apps", "v1beta1", &appsv1beta1.StatefulSet{}, &appsv1beta1.StatefulSetList{}, both(chosen, onDelete), nil},
	},
	{Group: "apps", Kind: "ControllerRevision"}: {
		{"apps", "v1beta2", &appsv1beta2.ControllerRevision{}, &appsv1beta2.ControllerRevisionList{}, nil, nil},
		{"apps", "v1beta1", &appsv1beta1.ControllerRevision{}, &appsv1beta1.ControllerRevisionList{}, nil, nil},
	},
	{Group: "batch", Kind: "CronJob"}: {
		{"batch", "v1beta1", &batchv1beta1.CronJob{}, &batchv1beta1.CronJobList{}, nil, nil},
	},
	{Group: "policy", Kind: "PodDisruptionBudget"}: {
		{"policy", "v1beta1", &policyv1beta1.PodDisruptionBudget{}, &policyv1beta1.PodDisruptionBudgetList{}, nil, nil},
	},
	{Group: "networking.k8s.io", Kind: "Ingress"}: {
		{"networking.k8s.io", "v1beta1", &networkingv1beta1.Ingress{}, &networkingv1beta1.IngressList{}, backendsIn, backendsOut},
		{"extensions", "v1beta1", &extensionsv1beta1.Ingress{}, &extensionsv1beta1.IngressList{}, backendsIn, backendsOut},
	},
	{Group: "networking.k8s.io", Kind: "IngressClass"}: {
		{"networking.k8s.io", "v1beta1", &networkingv1beta1.IngressClass{}, &networkingv1beta1.IngressClassList{}, nil, nil},
	},
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}: {
		{"extensions", "v1beta1", &extensionsv1beta1.NetworkPolicy{}, &extensionsv1beta1.NetworkPolicyList{}, nil, nil},
	},
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}: {
		{"rbac.authorization.k8s.io", "v1beta1", &rbacv1beta1.Role{}, &rbacv1beta1.RoleList{}, nil, nil},
	},
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}: {
		{"rbac.authorization.k8s.io", "v1beta1", &rbacv1beta1.RoleBinding{}, &rbacv1beta1.RoleBindingList{}, nil, nil},
	},
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}: {
		{"rbac.authorization.k8s.io", "v1beta1", &rbacv1beta1.ClusterRole{}, &rbacv1beta1.ClusterRoleList{}, nil, nil},
	},
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: {
		{"rbac.authorization.k8s.io", "v1beta1", &rbacv1beta1.ClusterRoleBinding{}, &rbacv1beta1.ClusterRoleBindingList{}, nil, nil},
	},
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}: {
		{"scheduling.k8s.io", "v1beta1", &schedulingv1beta1.PriorityClass{}, &schedulingv1beta1.PriorityClassList{}, nil, nil},
	},
	{Group: "storage.k8s.io", Kind: "StorageClass"}: {
		{"storage.k8s.io", "v1beta1", &storagev1beta1.StorageClass{}, &storagev1beta1.StorageClassList{}, nil, nil},
	},
}

// Types adds the Go types of all old versions to a scheme.
func Types(s *runtime.Scheme) error {
	for _, list := range versions {
		for _, o := range list {
			s.AddKnownTypes(schema.GroupVersion{Group: o.group, Version: o.version}, o.obj, o.list)
		}
	}
	return nil
}

// Add gives each kind its old versions. They have no short names and no categories: a word without a group means
// today's version.
func Add(kinds []*resource.Kind) []*resource.Kind {
	for _, k := range kinds {
		for _, o := range versions[k.GVK().GroupKind()] {
			k.Versions = append(k.Versions, o.of(k))
		}
	}
	return kinds
}

func (o old) of(k *resource.Kind) resource.Version {
	gv := schema.GroupVersion{Group: o.group, Version: o.version}
	return resource.Version{
		Names:   resource.Names{Group: o.group, Version: o.version, Kind: k.Names.Kind, Short: []string{}, Categories: []string{}},
		New:     func() runtime.Object { return fresh(o.obj) },
		NewList: func() runtime.Object { return fresh(o.list) },
		ToStorage: func(in runtime.Object) (resource.Object, error) {
			out := k.New()
			return out, through(in, out, o.in)
		},
		FromStored: func(in resource.Object) (runtime.Object, error) {
			out := fresh(o.obj)
			return out, through(in, out, o.out)
		},
		Deprecated: fmt.Sprintf("%s %s is deprecated; use %s %s", gv, k.Names.Kind, k.GVK().GroupVersion(), k.Names.Kind),
	}
}

// through copies one object over another through their common JSON. What only one of them knows is left out.
func through(in, out runtime.Object, fix func(map[string]any)) error {
	text, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("read %T: %w", in, err)
	}
	if fix != nil {
		var doc map[string]any
		if err := json.Unmarshal(text, &doc); err != nil {
			return fmt.Errorf("read %T: %w", in, err)
		}
		fix(doc)
		if text, err = json.Marshal(doc); err != nil {
			return fmt.Errorf("read %T: %w", in, err)
		}
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("write %T: %w", out, err)
	}
	return nil
}
