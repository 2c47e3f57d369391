package client

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// Kind says where the Go type T, with its list type L, lives in the API. Objects returned are the caller's own.
// Errors are those of the server, to be matched with apierrors.IsNotFound and its like.
type Kind[T, L any] struct {
	GroupVersion schema.GroupVersion
	Name         string // the kind, such as Pod
	Plural       string // as in URLs
	Namespaced   bool
}

// GVK names the kind in full.
func (k Kind[T, L]) GVK() schema.GroupVersionKind { return k.GroupVersion.WithKind(k.Name) }

// Get reads one object. The namespace is "" for kinds without one.
func (k Kind[T, L]) Get(ctx context.Context, api *API, namespace, name string) (*T, error) {
	return into[T](ctx, api, k.GroupVersion, func(c *rest.RESTClient) *rest.Request {
		return k.at(c.Get(), namespace).Name(name)
	})
}

// List reads the objects of a namespace, or of all when it is "".
func (k Kind[T, L]) List(ctx context.Context, api *API, namespace string, o metav1.ListOptions) (*L, error) {
	return into[L](ctx, api, k.GroupVersion, func(c *rest.RESTClient) *rest.Request {
		return k.at(c.Get(), namespace).VersionedParams(&o, api.params)
	})
}

// Watch follows the objects of a namespace, or of all when it is "".
func (k Kind[T, L]) Watch(ctx context.Context, api *API, namespace string, o metav1.ListOptions) (watch.Interface, error) {
	c, err := api.group(k.GroupVersion)
	if err != nil {
		return nil, err
	}
	o.Watch = true
	return k.at(c.Get(), namespace).VersionedParams(&o, api.params).Watch(ctx)
}

// Create stores a new object, in the namespace that it names, and returns it as stored.
func (k Kind[T, L]) Create(ctx context.Context, api *API, obj *T) (*T, error) {
	meta, err := metaOf(obj)
	if err != nil {
		return nil, err
	}
	return into[T](ctx, api, k.GroupVersion, func(c *rest.RESTClient) *rest.Request {
		return k.at(c.Post(), meta.GetNamespace()).Body(any(obj))
	})
}

// Update replaces an object, or a subresource of it such as "status", and returns it as stored.
func (k Kind[T, L]) Update(ctx context.Context, api *API, obj *T, subresource ...string) (*T, error) {
	meta, err := metaOf(obj)
	if err != nil {
		return nil, err
	}
	return into[T](ctx, api, k.GroupVersion, func(c *rest.RESTClient) *rest.Request {
		return k.at(c.Put(), meta.GetNamespace()).Name(meta.GetName()).SubResource(subresource...).Body(any(obj))
	})
}

// Patch changes an object, or a subresource of it, by a patch of the given type.
func (k Kind[T, L]) Patch(ctx context.Context, api *API, namespace, name string, pt types.PatchType, data []byte, subresource ...string) (*T, error) {
	return into[T](ctx, api, k.GroupVersion, func(c *rest.RESTClient) *rest.Request {
		return k.at(c.Patch(pt), namespace).Name(name).SubResource(subresource...).Body(data)
	})
}

// Delete removes an object, at once or after its grace period.
func (k Kind[T, L]) Delete(ctx context.Context, api *API, namespace, name string, o metav1.DeleteOptions) error {
	c, err := api.group(k.GroupVersion)
	if err != nil {
		return err
	}
	return k.at(c.Delete(), namespace).Name(name).Body(&o).Do(ctx).Error()
}

// Post sends body to a subresource that only creates: "binding", "eviction". What comes back is dropped.
func (k Kind[T, L]) Post(ctx context.Context, api *API, namespace, name, subresource string, body runtime.Object) error {
	c, err := api.group(k.GroupVersion)
	if err != nil {
		return err
	}
	return k.at(c.Post(), namespace).Name(name).SubResource(subresource).Body(body).Do(ctx).Error()
}

func (k Kind[T, L]) at(r *rest.Request, namespace string) *rest.Request {
	return r.NamespaceIfScoped(namespace, k.Namespaced && namespace != "").Resource(k.Plural)
}

// into sends a request and decodes the answer.
func into[T any](ctx context.Context, api *API, gv schema.GroupVersion, build func(*rest.RESTClient) *rest.Request) (*T, error) {
	c, err := api.group(gv)
	if err != nil {
		return nil, err
	}
	out := new(T)
	obj, ok := any(out).(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("%T is not an API type", out)
	}
	if err := build(c).Do(ctx).Into(obj); err != nil {
		return nil, err
	}
	return out, nil
}

func metaOf(obj any) (metav1.Object, error) {
	meta, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("%T is not an API object", obj)
	}
	return meta, nil
}
