package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// RoleBinding gives a role, or a cluster role, to subjects within one namespace.
var RoleBinding = resource.Define(scheme.Types, resource.Spec[rbacv1.RoleBinding]{
	Names:   names("RoleBinding", "rolebindings"),
	Scope:   resource.Namespaced,
	Default: func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
	Validate: func(b *rbacv1.RoleBinding) field.ErrorList {
		return append(validateRoleRef(b.RoleRef, "Role", "ClusterRole"), validateSubjects(b.Subjects, true)...)
	},
	ValidateUpdate:           func(b, old *rbacv1.RoleBinding) field.ErrorList { return validateSameRole(b.RoleRef, old.RoleRef) },
	ValidateName:             pathSegment,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[rbacv1.RoleBinding]{
		{Name: "Role", Describe: rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"], Value: func(b *rbacv1.RoleBinding) any { return roleOf(b.RoleRef) }},
		show.Age[rbacv1.RoleBinding](),
		subjectColumn("Users", rbacv1.UserKind, func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects }),
		subjectColumn("Groups", rbacv1.GroupKind, func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects }),
		subjectColumn("ServiceAccounts", rbacv1.ServiceAccountKind, func(b *rbacv1.RoleBinding) []rbacv1.Subject { return b.Subjects }),
	},
})

// ClusterRoleBinding gives a cluster role to subjects everywhere.
var ClusterRoleBinding = resource.Define(scheme.Types, resource.Spec[rbacv1.ClusterRoleBinding]{
	Names:   names("ClusterRoleBinding", "clusterrolebindings"),
	Scope:   resource.Cluster,
	Default: func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
	Validate: func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
		return append(validateRoleRef(b.RoleRef, "ClusterRole"), validateSubjects(b.Subjects, false)...)
	},
	ValidateUpdate: func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
		return validateSameRole(b.RoleRef, old.RoleRef)
	},
	ValidateName:             pathSegment,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	Columns: []resource.Column[rbacv1.ClusterRoleBinding]{
		{Name: "Role", Describe: rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], Value: func(b *rbacv1.ClusterRoleBinding) any { return roleOf(b.RoleRef) }},
		show.Age[rbacv1.ClusterRoleBinding](),
		subjectColumn("Users", rbacv1.UserKind, func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects }),
		subjectColumn("Groups", rbacv1.GroupKind, func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects }),
		subjectColumn("ServiceAccounts", rbacv1.ServiceAccountKind, func(b *rbacv1.ClusterRoleBinding) []rbacv1.Subject { return b.Subjects }),
	},
})

func roleOf(ref rbacv1.RoleRef) string { return ref.Kind + "/" + ref.Name }

// subjectColumn lists the subjects of one kind, with -o wide.
func subjectColumn[T any](name, kind string, of func(*T) []rbacv1.Subject) resource.Column[T] {
	return resource.Column[T]{
		Name: name, Wide: true, Describe: name + " in the binding",
		Value: func(b *T) any {
			text := ""
			for _, s := range of(b) {
				if s.Kind != kind {
					continue
				}
				if text != "" {
					text += ", "
				}
				if kind == rbacv1.ServiceAccountKind {
					text += s.Namespace + "/"
				}
				text += s.Name
			}
			return text
		},
	}
}

// defaultBinding fills in the API groups, which follow from the kinds.
func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		if s := &subjects[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

func validateRoleRef(ref rbacv1.RoleRef, kinds ...string) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(path.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	errs = append(errs, check.Among(ref.Kind, path.Child("kind"), kinds...)...)
	if ref.Name == "" {
		return append(errs, field.Required(path.Child("name"), ""))
	}
	return append(errs, check.Each(path.Child("name"), ref.Name, pathSegment(ref.Name))...)
}

func validateSameRole(ref, old rbacv1.RoleRef) field.ErrorList {
	if ref == old {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), ref, "cannot change roleRef")}
}

func validateSubjects(subjects []rbacv1.Subject, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i := range subjects {
		errs = append(errs, validateSubject(&subjects[i], namespaced, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func validateSubject(s *rbacv1.Subject, namespaced bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, check.Each(path.Child("name"), s.Name, validation.ValidateServiceAccountName(s.Name, false))...)
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(path.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if s.Namespace == "" && !namespaced {
			errs = append(errs, field.Required(path.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(path.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}
