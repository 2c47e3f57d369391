// Package apiregistration declares APIServices: which server serves which version of which group.
package apiregistration

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"hardway/apiserver/kinds/check"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/show"
	"hardway/apiserver/resource"
)

// The bounds and the values of priorities. Discovery lists groups in an order of its own.
const (
	maxGroup, maxVersion       = 20000, 1000
	coreGroup, otherGroup      = 18000, 17000
	stableVersion, betaVersion = 15, 9
)

// APIService says who serves a version of a group. All versions are served by this server: one that names another server is
// refused.
var APIService = resource.Define(scheme.Types, resource.Spec[apiregistrationv1.APIService]{
	Names: resource.Names{
		Group: apiregistrationv1.GroupName, Version: "v1", Kind: "APIService", Plural: "apiservices", Categories: []string{"api-extensions"},
	},
	Scope:      resource.Cluster,
	StorageKey: "apiregistration.k8s.io/apiservices",
	Default:    setDefaults,
	SetStatus:  func(dst, src *apiregistrationv1.APIService) { src.Status.DeepCopyInto(&dst.Status) },
	SpecChanged: func(s, old *apiregistrationv1.APIService) bool {
		return !equality.Semantic.DeepEqual(s.Spec, old.Spec)
	},
	Validate:             validate,
	ValidateName:         content.IsPathSegmentName,
	ValidateStatusUpdate: func(s, _ *apiregistrationv1.APIService) field.ErrorList { return validateStatus(s) },
	Columns: []resource.Column[apiregistrationv1.APIService]{
		{Name: "Service", Describe: "The reference to the service that hosts this API endpoint.", Value: func(s *apiregistrationv1.APIService) any {
			if s.Spec.Service == nil {
				return "Local"
			}
			return s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
		}},
		{Name: "Available", Describe: "Whether this service is available.", Value: available},
		show.Age[apiregistrationv1.APIService](),
	},
})

// setDefaults fills the port, and says of what this server serves itself that it is there.
func setDefaults(s *apiregistrationv1.APIService) {
	apiregistrationv1.SetObjectDefaults_APIService(s)
	if s.Spec.Service == nil && len(s.Status.Conditions) == 0 {
		s.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
			Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: s.CreationTimestamp,
			Reason: "Local", Message: "Local APIServices are always available",
		}}
	}
}

func available(s *apiregistrationv1.APIService) any {
	for _, c := range s.Status.Conditions {
		if c.Type != apiregistrationv1.Available {
			continue
		}
		if c.Status == apiregistrationv1.ConditionTrue {
			return string(c.Status)
		}
		return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
	}
	return string(apiregistrationv1.ConditionUnknown)
}

func validate(s *apiregistrationv1.APIService) field.ErrorList {
	path, spec := field.NewPath("spec"), &s.Spec
	var errs field.ErrorList
	if want := spec.Version + "." + spec.Group; s.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), s.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want)))
	}
	if spec.Group == "" && spec.Version != "v1" {
		errs = append(errs, field.Required(path.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if spec.Group != "" {
		errs = append(errs, check.Subdomain(spec.Group, path.Child("group"))...)
	}
	errs = append(errs, check.Each(path.Child("version"), spec.Version, validation.IsDNS1035Label(spec.Version))...)
	if n := spec.GroupPriorityMinimum; n <= 0 || n > maxGroup {
		errs = append(errs, field.Invalid(path.Child("groupPriorityMinimum"), n, "must be positive and less than 20000"))
	}
	if n := spec.VersionPriority; n <= 0 || n > maxVersion {
		errs = append(errs, field.Invalid(path.Child("versionPriority"), n, "must be positive and less than 1000"))
	}
	if spec.Service != nil {
		return append(errs, field.Forbidden(path.Child("service"), "this server passes no requests on to other API servers"))
	}
	if len(spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(path.Child("caBundle"), fmt.Sprintf("%d bytes", len(spec.CABundle)), "local APIServices may not have a caBundle"))
	}
	if spec.InsecureSkipTLSVerify {
		errs = append(errs, field.Invalid(path.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
	}
	return errs
}

func validateStatus(s *apiregistrationv1.APIService) field.ErrorList {
	var errs field.ErrorList
	for i, c := range s.Status.Conditions {
		errs = append(errs, check.OneOf(c.Status, field.NewPath("status", "conditions").Index(i).Child("status"),
			apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionUnknown)...)
	}
	return errs
}

// Local is the APIService of a version that this server serves itself.
func Local(gv schema.GroupVersion) *apiregistrationv1.APIService {
	out := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group, Labels: map[string]string{"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
		Spec:       apiregistrationv1.APIServiceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: otherGroup, VersionPriority: betaVersion},
	}
	if gv.Group == "" {
		out.Spec.GroupPriorityMinimum = coreGroup
	}
	if gv.Version == "v1" || gv.Version == "v2" {
		out.Spec.VersionPriority = stableVersion
	}
	return out
}
