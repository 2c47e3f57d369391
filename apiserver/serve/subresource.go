package serve

import (
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/apply"
	"hardway/apiserver/resource"
)

// subresource serves status and the declared subresources.
func (c *call) subresource() (*reply, error) {
	if len(c.info.Parts) > 3 || c.kind.Scope == resource.Namespaced && c.namespace == "" {
		return nil, c.noSubresource()
	}
	if c.info.Subresource == "status" && c.kind.HasStatus {
		switch c.info.Verb {
		case "get":
			return get(c)
		case "update":
			return c.replace("status")
		case "patch":
			return c.patchThrough("status")
		}
		return nil, c.notAllowed()
	}
	c.sub = c.kind.Subresource(c.info.Subresource)
	if c.sub == nil {
		return nil, c.noSubresource()
	}
	if !slices.Contains(c.sub.Verbs, c.info.Verb) {
		return nil, c.notAllowed()
	}
	if c.own() {
		switch c.info.Verb {
		case "get":
			return get(c)
		case "update":
			return c.replace(c.sub.Name)
		case "patch":
			return c.patchThrough(c.sub.Name)
		}
	}
	switch c.info.Verb {
	case "get":
		return c.readSub()
	case "create":
		return c.createSub()
	case "update":
		return c.updateSub()
	case "patch":
		return c.patchSub()
	}
	return nil, c.notAllowed()
}

func (c *call) noSubresource() error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, c.info.Verb, c.kind.GroupResource(), c.info.Name, "", 0, true)
}

// own says that the subresource is another way to write the object itself.
func (c *call) own() bool {
	return c.sub.Write == nil && c.sub.Delete == nil && (c.sub.Kind.Empty() || c.sub.Kind == c.kind.GVK())
}

// show makes what the subresource shows of a parent.
func (c *call) show(parent resource.Object) (runtime.Object, error) {
	if c.sub.Read == nil {
		return nil, c.notAllowed()
	}
	out, err := c.sub.Read(parent)
	if err != nil {
		return nil, err
	}
	out.GetObjectKind().SetGroupVersionKind(c.sub.Kind)
	return out, nil
}

func (c *call) readSub() (*reply, error) {
	it, err := c.reg.Get(c.r.Context(), c.namespace, c.info.Name, c.query.Get("resourceVersion"))
	if err != nil {
		return nil, err
	}
	out, err := c.show(it.Object)
	if err != nil {
		return nil, err
	}
	return &reply{code: http.StatusOK, other: out}, nil
}

// createSub takes an object of the subresource's kind and lets it act on the parent, as a Binding does.
func (c *call) createSub() (*reply, error) {
	opts, err := createOptions(c.query)
	if err != nil {
		return nil, err
	}
	sent := c.sub.New()
	if err := c.decode(sent, c.sub.Kind, opts.FieldValidation); err != nil {
		return nil, err
	}
	if err := c.checkSent(sent); err != nil {
		return nil, err
	}
	if c.sub.Answer != nil {
		return c.answerSub(sent)
	}
	return c.act(sent, &metav1.UpdateOptions{DryRun: opts.DryRun, FieldManager: opts.FieldManager})
}

// answerSub lets the subresource answer what was sent.
func (c *call) answerSub(sent runtime.Object) (*reply, error) {
	ctx := c.r.Context()
	parent, err := c.reg.Find(ctx, c.namespace, c.info.Name)
	if err != nil {
		return nil, err
	}
	if obj, ok := sent.(resource.Object); ok {
		if err := c.reg.Admit(ctx, c.sub.Name, obj); err != nil {
			return nil, err
		}
	}
	if err := c.sub.Answer(ctx, parent, sent, c.s.judge); err != nil {
		return nil, err
	}
	sent.GetObjectKind().SetGroupVersionKind(c.sub.Kind)
	return &reply{code: http.StatusCreated, other: sent}, nil
}

// checkSent makes sure that what is sent names no other parent.
func (c *call) checkSent(sent runtime.Object) error {
	obj, ok := sent.(metav1.Object)
	if !ok {
		return nil
	}
	if obj.GetName() == "" {
		obj.SetName(c.info.Name)
	}
	if err := c.checkNamespace(obj); err != nil {
		return err
	}
	return c.checkName(obj)
}

// act writes what was sent into the parent, deletes it if the subresource says so, and answers with what the subresource
// then shows, or with a Status when it shows nothing.
func (c *call) act(sent runtime.Object, opts *metav1.UpdateOptions) (*reply, error) {
	var obj resource.Object
	err := c.reg.Act(c.r.Context(), c.namespace, c.info.Name, c.sub.Name, sent, len(opts.DryRun) > 0, func(sent runtime.Object) error {
		var err error
		if obj, err = c.actOn(sent, opts); err != nil || c.sub.Delete == nil {
			return err
		}
		how, err := c.sub.Delete(obj, sent)
		if err != nil {
			return err
		}
		if len(opts.DryRun) > 0 {
			how.DryRun = opts.DryRun
		}
		_, _, err = c.reg.Delete(c.r.Context(), c.namespace, c.info.Name, how)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.sub.Read == nil {
		return &reply{code: http.StatusCreated, other: &metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusCreated,
		}}, nil
	}
	out, err := c.show(obj)
	if err != nil {
		return nil, err
	}
	return &reply{code: http.StatusCreated, other: out}, nil
}

// actOn lets the subresource change the parent, if it does, and returns the parent.
func (c *call) actOn(sent runtime.Object, opts *metav1.UpdateOptions) (resource.Object, error) {
	ctx := c.r.Context()
	if c.sub.Write == nil {
		it, err := c.reg.Get(ctx, c.namespace, c.info.Name, "")
		if err != nil {
			return nil, err
		}
		return it.Object, nil
	}
	obj, _, err := c.change(c.sub.Name, func(current resource.Object) (resource.Object, error) {
		return current, c.sub.Write(ctx, current, sent.DeepCopyObject())
	}, opts, false)
	return obj, err
}

func (c *call) updateSub() (*reply, error) {
	opts, err := updateOptions(c.query)
	if err != nil {
		return nil, err
	}
	sent := c.sub.New()
	if err := c.decode(sent, c.sub.Kind, opts.FieldValidation); err != nil {
		return nil, err
	}
	return c.writeSub(opts, func(runtime.Object) (runtime.Object, error) { return sent.DeepCopyObject(), nil })
}

func (c *call) patchSub() (*reply, error) {
	p, opts, err := c.readPatch()
	if err != nil {
		return nil, err
	}
	if p.Type == types.ApplyYAMLPatchType {
		return nil, unsupported(apply.Accepted[:3]...)
	}
	return c.writeSub(asUpdate(opts), func(shown runtime.Object) (runtime.Object, error) {
		into := c.sub.New()
		unknown, err := p.To(shown, into, nil)
		if err != nil {
			return nil, err
		}
		c.warnUnknown(unknown)
		return into, nil
	})
}

// writeSub changes the parent by what a subresource such as scale becomes.
func (c *call) writeSub(opts *metav1.UpdateOptions, become func(shown runtime.Object) (runtime.Object, error)) (*reply, error) {
	m, err := c.manager(c.sub.Name)
	if err != nil {
		return nil, err
	}
	ctx := c.r.Context()
	manager := apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	obj, _, err := c.change(c.sub.Name, func(current resource.Object) (resource.Object, error) {
		shown, err := c.show(current)
		if err != nil {
			return nil, err
		}
		sent, err := become(shown)
		if err != nil {
			return nil, err
		}
		if err := c.checkSent(sent); err != nil {
			return nil, err
		}
		before := current.DeepCopyObject().(resource.Object)
		if err := c.sub.Write(ctx, current, sent); err != nil {
			return nil, err
		}
		if o, ok := sent.(metav1.Object); ok && o.GetResourceVersion() != "" {
			current.SetResourceVersion(o.GetResourceVersion())
		}
		return m.Update(before, current, manager), nil
	}, opts, false)
	if err != nil {
		return nil, err
	}
	out, err := c.show(obj)
	if err != nil {
		return nil, err
	}
	return &reply{code: http.StatusOK, other: out}, nil
}
