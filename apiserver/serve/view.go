package serve

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
)

// view answers with one object that is found out now.
func (c *call) view() (*reply, error) {
	for _, obj := range c.kind.Observe(c.r.Context(), c.s.judge) {
		if obj.GetName() == c.info.Name {
			obj.GetObjectKind().SetGroupVersionKind(c.gvk)
			return &reply{code: http.StatusOK, entity: entity{obj: obj}}, nil
		}
	}
	return nil, apierrors.NewNotFound(c.kind.GroupResource(), c.info.Name)
}

// viewAll answers with those that the selectors find.
func (c *call) viewAll(q registry.Query) error {
	var found []resource.Object
	for _, obj := range c.kind.Observe(c.r.Context(), c.s.judge) {
		named := fields.Set{"metadata.name": obj.GetName()}
		if q.Label.Matches(labels.Set(obj.GetLabels())) && q.Field.Matches(named) {
			obj.GetObjectKind().SetGroupVersionKind(c.gvk)
			found = append(found, obj)
		}
	}
	return c.sendList(metav1.ListMeta{}, len(found), func(i int) entity { return entity{obj: found[i]} })
}

// through lets an object act on the parent that it names, as if it had been sent to the parent's subresource.
func (c *call) through(sent runtime.Object, opts *metav1.CreateOptions) (*reply, error) {
	obj, ok := sent.(metav1.Object)
	if !ok || obj.GetName() == "" {
		return nil, apierrors.NewBadRequest("name is required")
	}
	to := *c.kind.Through
	parent := c.s.endpoint(c.gvk.GroupVersion().WithResource(to.Parent))
	info := *c.info
	info.Resource, info.Subresource, info.Name = to.Parent, to.Subresource, obj.GetName()
	there := *c
	there.endpoint, there.info, there.sub = parent, &info, parent.kind.Subresource(to.Subresource)
	if err := there.checkSent(sent); err != nil {
		return nil, err
	}
	return there.act(sent, &metav1.UpdateOptions{DryRun: opts.DryRun, FieldManager: opts.FieldManager})
}
