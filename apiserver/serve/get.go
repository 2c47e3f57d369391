package serve

import "net/http"

// get answers with one object.
func get(c *call) (*reply, error) {
	if c.kind.Observe != nil {
		return c.view()
	}
	it, err := c.reg.Get(c.r.Context(), c.namespace, c.info.Name, c.query.Get("resourceVersion"))
	if err != nil {
		return nil, err
	}
	return &reply{code: http.StatusOK, entity: fromItem(it)}, nil
}
