package serve

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// remove deletes one object. What is left of it comes back while a finalizer or a grace period holds it; of most kinds
// a Status when it is gone.
func remove(c *call) (*reply, error) {
	opts, err := c.deleteOptions()
	if err != nil {
		return nil, err
	}
	obj, gone, err := c.reg.Delete(c.r.Context(), c.namespace, c.info.Name, opts)
	if err != nil {
		return nil, err
	}
	if obj != nil && (!gone || c.kind.ReturnDeleted) {
		code := http.StatusOK
		if !gone && opts.OrphanDependents != nil && !*opts.OrphanDependents { //nolint:staticcheck // SA1019: old clients send it
			code = http.StatusAccepted
		}
		return &reply{code: code, entity: entity{obj: obj}}, nil
	}
	status := &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: c.info.Name, Group: c.kind.Group, Kind: c.kind.Plural},
	}
	if obj != nil {
		status.Details.UID = obj.GetUID()
	}
	return &reply{code: http.StatusOK, other: status}, nil
}

// removeCollection deletes what a selector finds and answers with the list of it.
func removeCollection(c *call) (*reply, error) {
	query, _, err := c.listOptions()
	if err != nil {
		return nil, err
	}
	opts, err := c.deleteOptions()
	if err != nil {
		return nil, err
	}
	deleted, err := c.reg.DeleteCollection(c.r.Context(), query, opts)
	if err != nil {
		return nil, err
	}
	return nil, c.sendList(metav1.ListMeta{}, len(deleted), func(i int) entity { return entity{obj: deleted[i]} })
}
