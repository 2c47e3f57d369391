package registry

import (
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
)

// Query selects objects. Nil selectors select everything.
type Query struct {
	Namespace       string // empty: all
	Label           labels.Selector
	Field           fields.Selector
	Limit           int64 // 0: no pages
	Continue        string
	ResourceVersion string
	Match           metav1.ResourceVersionMatch

	// The rest is for Watch.
	SendInitialEvents *bool
	Bookmarks         bool
	Timeout           time.Duration // 0: no end of its own
}

// selection compiles the selectors.
func (r *Registry) selection(q Query) (*cache.Selection, error) {
	if r.kind.Scope == resource.Cluster {
		q.Namespace = ""
	}
	sel, err := cache.Select(r.kind, q.Namespace, q.Label, q.Field)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return sel, nil
}

// check says whether the parts of the query go together.
func (q Query) check(watch bool) error {
	if q.Match == "" && q.SendInitialEvents == nil {
		return nil
	}
	o := &internalversion.ListOptions{
		Watch: watch, ResourceVersion: q.ResourceVersion, ResourceVersionMatch: q.Match,
		Continue: q.Continue, SendInitialEvents: q.SendInitialEvents,
	}
	if errs := validation.ValidateListOptions(o, true); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	return nil
}

// revision reads the query's resourceVersion.
func (q Query) revision() (int64, error) {
	rev, err := parseRevision(q.ResourceVersion)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion: %v", err))
	}
	return rev, nil
}
