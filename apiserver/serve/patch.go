package serve

import (
	"fmt"
	"mime"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/apply"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// patch changes an object by a patch of one of four forms.
func patch(c *call) (*reply, error) { return c.patchThrough("") }

// patchThrough patches an object, or what a subresource named sub shows of it.
func (c *call) patchThrough(sub string) (*reply, error) {
	p, opts, err := c.readPatch()
	if err != nil {
		return nil, err
	}
	m, err := c.manager(sub)
	if err != nil {
		return nil, err
	}
	manager := apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	change := func(current resource.Object) (resource.Object, error) {
		obj, err := c.patched(p, current, m, manager)
		if err != nil {
			return nil, err
		}
		return obj, c.checkPatched(obj, current)
	}
	isApply := p.Type == types.ApplyYAMLPatchType
	if isApply {
		change, err = c.applyChange(p, opts, m)
		if err != nil {
			return nil, err
		}
	}
	obj, created, err := c.change(sub, change, asUpdate(opts), isApply && sub == "")
	if err != nil {
		return nil, err
	}
	return &reply{code: okOrCreated(created), entity: entity{obj: obj}}, nil
}

// changeAttempts is how often a change is made anew when somebody else was faster. Upstream's figure for patches.
const changeAttempts = 5

// change changes the object by a function of its current state. The function's result carries the resourceVersion it was
// made from; it is made anew when that is outdated, unless the client itself asked for another one or
// the function refuses.
func (c *call) change(sub string, by func(resource.Object) (resource.Object, error), opts *metav1.UpdateOptions, mayCreate bool,
) (obj resource.Object, created bool, err error) {
	asked := false
	watched := func(current resource.Object) (resource.Object, error) {
		version := current.GetResourceVersion()
		out, err := by(current)
		asked = err != nil || out.GetResourceVersion() != version
		return out, err
	}
	var warnings []string
	for attempt := 1; ; attempt++ {
		obj, created, warnings, err = c.reg.Update(c.r.Context(), c.namespace, c.info.Name, sub, watched, opts, mayCreate)
		if asked || attempt == changeAttempts || !apierrors.IsConflict(err) {
			c.warn(warnings)
			return obj, created, err
		}
	}
}

// readPatch reads the patch and its options.
func (c *call) readPatch() (apply.Patch, *metav1.PatchOptions, error) {
	accepted := apply.Accepted
	if c.kind.Form != nil && c.sub == nil {
		// Strategic merging needs a Go type.
		accepted = slices.DeleteFunc(slices.Clone(accepted), func(t string) bool { return t == string(types.StrategicMergePatchType) })
	}
	name, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(accepted, name) {
		return apply.Patch{}, nil, unsupported(accepted...)
	}
	p := apply.Patch{Type: types.PatchType(name)}
	opts, err := patchOptions(c.query, p.Type)
	if err != nil {
		return p, nil, err
	}
	p.Validation = directive(opts.FieldValidation)
	p.Data, err = c.readBody()
	return p, opts, err
}

// patched applies a patch in the endpoint's version and notes what it changed.
func (c *call) patched(p apply.Patch, current resource.Object, m *apply.Manager, manager string) (resource.Object, error) {
	if current.GetUID() == "" {
		return nil, apierrors.NewNotFound(c.kind.GroupResource(), c.info.Name)
	}
	shown, err := c.outgoing(current)
	if err != nil {
		return nil, err
	}
	into := c.empty()
	var read func([]byte) (runtime.Object, []error, error)
	if f := c.kind.Form; f != nil {
		read = func(text []byte) (runtime.Object, []error, error) { return f.Read(text) }
	}
	unknown, err := p.To(shown, into, read)
	if err != nil {
		return nil, err
	}
	c.warnUnknown(unknown)
	obj, err := c.incoming(into)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return m.Update(current, obj, manager), nil
}

// applyChange is the change of a server-side apply.
func (c *call) applyChange(p apply.Patch, opts *metav1.PatchOptions, m *apply.Manager) (func(resource.Object) (resource.Object, error), error) {
	wish, unknown, err := p.Unstructured()
	if err != nil {
		return nil, err
	}
	c.warnUnknown(unknown)
	force := opts.Force != nil && *opts.Force
	return func(current resource.Object) (resource.Object, error) {
		if current.GetUID() == "" {
			current = c.kind.New() // nothing is there yet, not even a name that somebody could own
		}
		obj, err := m.Apply(current, wish.DeepCopy(), opts.FieldManager, force)
		if err != nil {
			return nil, applyError(err)
		}
		if obj.GetUID() != "" && current.GetUID() == "" {
			return nil, apierrors.NewConflict(c.kind.GroupResource(), c.info.Name, fmt.Errorf(
				"uid mismatch: the provided object specified uid %s, and no existing object was found", obj.GetUID()))
		}
		return obj, c.checkPatched(obj, current)
	}, nil
}

// applyError makes a client's mistake of what the merge library reports as plain text: a field that the kind has not,
// a list item without its key.
//
// Differs from upstream: there these are answered as 500.
func applyError(err error) error {
	if _, ok := err.(apierrors.APIStatus); ok { //nolint:errorlint // the library returns them bare
		return err
	}
	if strings.HasPrefix(err.Error(), "failed to create typed patch object") {
		return apierrors.NewBadRequest(err.Error())
	}
	return err
}

func (c *call) checkPatched(obj, old resource.Object) error {
	if err := c.checkNamespace(obj); err != nil {
		return err
	}
	if err := c.checkName(obj); err != nil {
		return err
	}
	c.dropTwins(obj)
	if old.GetUID() == "" {
		old = nil
	}
	return c.checkVersion(obj, old)
}

func (c *call) warnUnknown(unknown []error) {
	for _, e := range unknown {
		for _, text := range yamlErrors(e.Error()) {
			request.Warn(c.r.Context(), text)
		}
	}
}

func asUpdate(o *metav1.PatchOptions) *metav1.UpdateOptions {
	return &metav1.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
}
