package serve

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	listvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/registry"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// params reads typed values of a query and remembers the first error.
type params struct {
	values url.Values
	err    error
}

func (p *params) text(name string) string { return p.values.Get(name) }

func (p *params) flag(name string) bool { return request.Flag(p.values, name) }

func (p *params) flagPointer(name string) *bool {
	if _, ok := p.values[name]; !ok {
		return nil
	}
	v := p.flag(name)
	return &v
}

func (p *params) number(name string) *int64 {
	text := p.values.Get(name)
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		if p.err == nil {
			p.err = apierrors.NewBadRequest(err.Error())
		}
		return nil
	}
	return &n
}

func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

func createOptions(values url.Values) (*metav1.CreateOptions, error) {
	p := params{values: values}
	o := &metav1.CreateOptions{DryRun: values["dryRun"], FieldManager: p.text("fieldManager"), FieldValidation: p.text("fieldValidation")}
	return o, invalidOptions("CreateOptions", validation.ValidateCreateOptions(o))
}

func updateOptions(values url.Values) (*metav1.UpdateOptions, error) {
	p := params{values: values}
	o := &metav1.UpdateOptions{DryRun: values["dryRun"], FieldManager: p.text("fieldManager"), FieldValidation: p.text("fieldValidation")}
	return o, invalidOptions("UpdateOptions", validation.ValidateUpdateOptions(o))
}

func patchOptions(values url.Values, t types.PatchType) (*metav1.PatchOptions, error) {
	p := params{values: values}
	o := &metav1.PatchOptions{DryRun: values["dryRun"], FieldManager: p.text("fieldManager"), FieldValidation: p.text("fieldValidation"), Force: p.flagPointer("force")}
	return o, invalidOptions("PatchOptions", validation.ValidatePatchOptions(o, t))
}

// directive is what becomes of unknown fields: Warn unless the client says otherwise.
func directive(given string) string {
	if given == "" {
		return metav1.FieldValidationWarn
	}
	return given
}

// deleteOptions reads the options of a delete from the body, or without one from the query.
func (c *call) deleteOptions() (*metav1.DeleteOptions, error) {
	data, err := c.readBody()
	if err != nil {
		return nil, err
	}
	o := &metav1.DeleteOptions{}
	if len(data) > 0 {
		enc, err := bodyEncoding(c.r)
		if err != nil {
			return nil, err
		}
		if err := c.s.decodeOptions(enc, data, o); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	} else {
		p := params{values: c.query}
		o.DryRun, o.GracePeriodSeconds = c.query["dryRun"], p.number("gracePeriodSeconds")
		o.OrphanDependents = p.flagPointer("orphanDependents") //nolint:staticcheck // SA1019: old clients send it
		if policy := metav1.DeletionPropagation(p.text("propagationPolicy")); policy != "" {
			o.PropagationPolicy = &policy
		}
		if p.err != nil {
			return nil, p.err
		}
	}
	if o.IgnoreStoreReadErrorWithClusterBreakingPotential != nil && *o.IgnoreStoreReadErrorWithClusterBreakingPotential {
		return nil, invalidOptions("DeleteOptions", field.ErrorList{field.Forbidden(field.NewPath("ignoreStoreReadErrorWithClusterBreakingPotential"),
			"objects that cannot be read are not deleted by this server")})
	}
	return o, invalidOptions("DeleteOptions", validation.ValidateDeleteOptions(o))
}

// listOptions reads what a list, watch or deletecollection selects, with the seconds it may last.
func (c *call) listOptions() (registry.Query, *int64, error) {
	p := params{values: c.query}
	q := registry.Query{
		Namespace: c.namespace, Continue: p.text("continue"), ResourceVersion: p.text("resourceVersion"),
		Match: metav1.ResourceVersionMatch(p.text("resourceVersionMatch")), Bookmarks: p.flag("allowWatchBookmarks"),
		SendInitialEvents: p.flagPointer("sendInitialEvents"),
	}
	if limit := p.number("limit"); limit != nil {
		q.Limit = *limit
	}
	timeout := p.number("timeoutSeconds")
	if p.err != nil {
		return q, nil, p.err
	}
	var err error
	if q.Label, err = labels.Parse(p.text("labelSelector")); err != nil {
		return q, nil, apierrors.NewBadRequest(fmt.Sprintf("unable to parse requirement: %v", strings.TrimPrefix(err.Error(), "unable to parse requirement: ")))
	}
	if q.Field, err = c.fieldSelector(p.text("fieldSelector")); err != nil {
		return q, nil, err
	}
	checked := &internalversion.ListOptions{
		Watch: c.info.Verb == "watch", Limit: q.Limit, Continue: q.Continue, ResourceVersion: q.ResourceVersion,
		ResourceVersionMatch: q.Match, SendInitialEvents: q.SendInitialEvents, AllowWatchBookmarks: q.Bookmarks,
	}
	internalversion.SetListOptionsDefaults(checked, true)
	q.SendInitialEvents, q.Match = checked.SendInitialEvents, checked.ResourceVersionMatch
	return q, timeout, invalidOptions("ListOptions", listvalidation.ValidateListOptions(checked, true))
}

// fieldSelector reads a field selector, whose fields the kind must know, and adds the name of the URL to it.
func (c *call) fieldSelector(text string) (fields.Selector, error) {
	sel, err := fields.ParseSelector(text)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	for _, r := range sel.Requirements() {
		if err := knownField(c.kind, c.version, r.Field); err != nil {
			return nil, err
		}
	}
	if c.version != nil && c.version.Fields != nil {
		sel, err = sel.Transform(func(name, value string) (string, string, error) {
			if stored, ok := c.version.Fields[name]; ok {
				name = stored
			}
			return name, value, nil
		})
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if c.info.Name == "" {
		return sel, nil
	}
	if sel.Empty() {
		return fields.OneTermEqualSelector("metadata.name", c.info.Name), nil
	}
	if name, ok := sel.RequiresExactMatch("metadata.name"); !ok || name != c.info.Name {
		return nil, apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
	}
	return sel, nil
}

// knownField refuses a selector by a field that the kind, in this version (nil: the stored one), does not offer.
func knownField(k *resource.Kind, v *resource.Version, name string) error {
	if name == "metadata.name" || name == "metadata.namespace" {
		return nil
	}
	if v != nil && v.Fields != nil {
		if _, ok := v.Fields[name]; ok {
			return nil
		}
	} else if k.Fields[name] != nil {
		return nil
	}
	if len(k.Fields) > 0 {
		return apierrors.NewBadRequest("field label not supported: " + name)
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%q is not a known field selector: only %q, %q", name, "metadata.name", "metadata.namespace"))
}
