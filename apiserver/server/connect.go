package server

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/proxy"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/apiserver/serve"
	"hardway/shared/daemon"
	"hardway/shared/mtls"
)

// connections are the subresources that are streams to a node or a pod.
func (s *server) connections() (map[string]serve.Connect, error) {
	// Without a CA of their own, node agents are expected to be signed by the clients' CA: they always have to prove
	// who they are.
	files := mtls.Files{Cert: s.cfg.Kubelet.Cert, Key: s.cfg.Kubelet.Key, CA: s.cfg.Kubelet.CA}
	if files.CA == "" {
		files.CA = s.cfg.ClientCA
	}
	identity, err := mtls.Client(files)
	if err != nil {
		return nil, &daemon.ConfigError{Err: fmt.Errorf("certificates for node agents: %w", err)}
	}
	var types []corev1.NodeAddressType
	for _, t := range s.cfg.Kubelet.AddressTypes {
		types = append(types, corev1.NodeAddressType(t))
	}
	s.proxy = proxy.New(proxy.Options{
		Objects: objects{s.set}, NodeTLS: identity.TLS, AddressTypes: types, Log: s.log,
	})
	connect := map[string]serve.Connect{}
	for path, h := range s.proxy.Handlers() {
		connect[path] = serve.Connect(h)
	}
	return connect, nil
}

// objects lets the proxy look things up.
type objects struct{ set *registry.Set }

// find reads one object from the cache, or afresh when it is not there yet.
func find[T resource.Object](ctx context.Context, set *registry.Set, gr schema.GroupResource, namespace, name string) (T, error) {
	var none T
	obj, err := set.For(gr).Find(ctx, namespace, name)
	if err != nil {
		return none, err
	}
	typed, ok := obj.(T)
	if !ok {
		return none, fmt.Errorf("%s %s is a %T", gr, name, obj)
	}
	return typed, nil
}

// Pod looks up a pod.
func (o objects) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return find[*corev1.Pod](ctx, o.set, schema.GroupResource{Resource: "pods"}, namespace, name)
}

// Node looks up a node.
func (o objects) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return find[*corev1.Node](ctx, o.set, schema.GroupResource{Resource: "nodes"}, "", name)
}

// Service looks up a service.
func (o objects) Service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	return find[*corev1.Service](ctx, o.set, services, namespace, name)
}

// Slices lists the endpoint slices of a service.
func (o objects) Slices(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
	reg := o.set.For(schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"})
	list, err := reg.List(ctx, registry.Query{
		Namespace: namespace, ResourceVersion: "0", Label: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}),
	})
	if err != nil {
		return nil, err
	}
	out := make([]*discoveryv1.EndpointSlice, 0, len(list.Items))
	for _, it := range list.Items {
		if slice, ok := it.Object.(*discoveryv1.EndpointSlice); ok {
			out = append(out, slice)
		}
	}
	return out, nil
}
