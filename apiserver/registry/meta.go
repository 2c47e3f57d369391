package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// Generated names are the base, cut so that a label's length is kept, and five random characters.
const (
	generatedLength = 63
	randomLength    = 5
	// generateAttempts is how often a generated name is tried anew when it is taken.
	generateAttempts = 8
)

// born sets what the server alone decides about a new object.
func born(obj resource.Object, now time.Time) {
	obj.SetCreationTimestamp(metav1.NewTime(now.UTC().Truncate(time.Second)))
	obj.SetUID(uuid.NewUUID())
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
}

// generateName makes a name of metadata.generateName.
func generateName(base string) string {
	return base[:min(len(base), generatedLength-randomLength)] + rand.String(randomLength)
}

// placed puts an object into its namespace, or refuses it when it names another one.
func (r *Registry) placed(obj resource.Object, namespace string) error {
	if r.kind.Scope == resource.Cluster {
		obj.SetNamespace("")
		return nil
	}
	switch obj.GetNamespace() {
	case namespace:
		return nil
	case "":
		obj.SetNamespace(namespace)
		return nil
	}
	return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
}

// requestNamespace is the namespace of the URL if the request is about this kind; else the object's own: one part of
// the server creates an object for another.
func (r *Registry) requestNamespace(ctx context.Context, obj resource.Object) string {
	if info := request.From(ctx); info != nil && info.IsResource && info.Resource == r.kind.Plural {
		return info.Namespace
	}
	return obj.GetNamespace()
}

var metadata = field.NewPath("metadata")

// checkNew applies the rules to a new object.
func (r *Registry) checkNew(obj resource.Object) error {
	errs := append(r.kind.Validate(obj), r.kind.ValidateCreate(obj)...)
	errs = append(errs, validation.ValidateObjectMetaAccessor(obj, r.kind.Scope == resource.Namespaced, r.nameRule, metadata)...)
	return r.invalid(obj.GetName(), errs)
}

// checkChange applies the rules to a change.
func (r *Registry) checkChange(obj, old resource.Object, sub string) error {
	errs := validation.ValidateObjectMetaAccessor(obj, r.kind.Scope == resource.Namespaced, pathSegment, metadata)
	errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(obj, old, metadata)...)
	switch s := r.kind.Subresource(sub); {
	case sub == "status":
		errs = append(errs, r.kind.ValidateStatusUpdate(obj, old)...)
	case s != nil && s.Validate != nil:
		errs = append(errs, s.Validate(obj, old)...)
	default:
		errs = append(errs, r.kind.Validate(obj)...)
		errs = append(errs, r.kind.ValidateUpdate(obj, old)...)
	}
	return r.invalid(obj.GetName(), errs)
}

func (r *Registry) invalid(name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(r.kind.GVK().GroupKind(), name, errs)
}

// nameRule checks a name, or the beginning of a generated one.
func (r *Registry) nameRule(name string, prefix bool) []string {
	if r.kind.ValidateName == nil {
		return validation.NameIsDNSSubdomain(name, prefix)
	}
	if prefix {
		name = strings.TrimRight(name, "-") + "a"
	}
	return r.kind.ValidateName(name)
}

// pathSegment is all that must hold for a name that is there already.
func pathSegment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}

// dryRun reads the option of that name.
func dryRun(option []string) bool { return len(option) > 0 }

// sameName refuses an object that carries another name than the URL.
func sameName(obj resource.Object, name string) error {
	switch obj.GetName() {
	case name:
		return nil
	case "":
		obj.SetName(name)
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf(
		"the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), name))
}
