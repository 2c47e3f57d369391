package judge

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// selector turns the field selector of a review into that of a request. What a field selector cannot say is left out:
// the request is then less restricted, and so less may be allowed.
func selector(a *authorizationv1.FieldSelectorAttributes) fields.Selector {
	if a == nil {
		return nil
	}
	if a.RawSelector != "" {
		s, err := fields.ParseSelector(a.RawSelector)
		if err != nil {
			return nil
		}
		return s
	}
	var all []fields.Selector
	for _, r := range a.Requirements {
		if r.Operator == metav1.FieldSelectorOpIn && len(r.Values) == 1 {
			all = append(all, fields.OneTermEqualSelector(r.Key, r.Values[0]))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fields.AndSelectors(all...)
}
