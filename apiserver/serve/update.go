package serve

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/apply"
	"hardway/apiserver/resource"
)

// update replaces an object.
func update(c *call) (*reply, error) { return c.replace("") }

// replace replaces an object, or what a subresource named sub shows of it.
func (c *call) replace(sub string) (*reply, error) {
	opts, err := updateOptions(c.query)
	if err != nil {
		return nil, err
	}
	sent := c.empty()
	if err := c.decode(sent, c.gvk, opts.FieldValidation); err != nil {
		return nil, err
	}
	wish, err := c.incoming(sent)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := c.checkNamespace(wish); err != nil {
		return nil, err
	}
	if err := c.checkName(wish); err != nil {
		return nil, err
	}
	c.dropTwins(wish)
	m, err := c.manager(sub)
	if err != nil {
		return nil, err
	}
	manager := apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	obj, created, warnings, err := c.reg.Update(c.r.Context(), c.namespace, c.info.Name, sub,
		func(current resource.Object) (resource.Object, error) {
			next := m.Update(current, wish.DeepCopyObject().(resource.Object), manager)
			if current.GetUID() == "" {
				return next, c.checkVersion(next, nil)
			}
			return next, c.checkVersion(next, current)
		}, opts, sub == "" && c.kind.AllowCreateOnUpdate)
	c.warn(warnings)
	if err != nil {
		return nil, err
	}
	return &reply{code: okOrCreated(created), entity: entity{obj: obj}}, nil
}

func okOrCreated(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}
