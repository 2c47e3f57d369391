package serve

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/apply"
	"hardway/apiserver/resource"
)

// create makes a new object.
func create(c *call) (*reply, error) {
	if c.info.Name != "" {
		return nil, c.notAllowed()
	}
	opts, err := createOptions(c.query)
	if err != nil {
		return nil, err
	}
	sent := c.empty()
	if err := c.decode(sent, c.gvk, opts.FieldValidation); err != nil {
		return nil, err
	}
	if c.kind.Through != nil {
		return c.through(sent, opts)
	}
	obj, err := c.incoming(sent)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if c.kind.Review != nil {
		return c.review(obj)
	}
	wipe(obj)
	if err := c.checkNamespace(obj); err != nil {
		return nil, err
	}
	c.dropTwins(obj)
	if err := c.checkVersion(obj, nil); err != nil {
		return nil, err
	}
	m, err := c.manager("")
	if err != nil {
		return nil, err
	}
	obj = m.Update(c.kind.New(), obj, apply.ManagerName(opts.FieldManager, c.r.UserAgent()))
	out, warnings, err := c.reg.Create(c.r.Context(), obj, opts)
	c.warn(warnings)
	if err != nil {
		return nil, err
	}
	return &reply{code: http.StatusCreated, entity: entity{obj: out}}, nil
}

// review answers a question: nothing is stored.
func (c *call) review(obj resource.Object) (*reply, error) {
	if err := c.checkNamespace(obj); err != nil {
		return nil, err
	}
	if errs := c.kind.Validate(obj); len(errs) > 0 {
		return nil, apierrors.NewInvalid(c.gvk.GroupKind(), obj.GetName(), errs)
	}
	if err := c.kind.Review(c.r.Context(), obj, c.s.judge); err != nil {
		return nil, err
	}
	return &reply{code: http.StatusCreated, entity: entity{obj: obj}}, nil
}
