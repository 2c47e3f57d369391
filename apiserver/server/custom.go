package server

import (
	"context"
	"fmt"
	"net"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/crd"
	"hardway/apiserver/discovery"
	"hardway/apiserver/resource"
	"hardway/apiserver/serve"
	"hardway/apiserver/webhook"
)

// customKinds makes what serves the kinds that are declared while the server runs.
func (s *server) customKinds(handlers *serve.Server, all []*resource.Kind) *crd.Engine {
	publish := func(list []crd.Served) {
		kinds, custom := all[:len(all):len(all)], make([]serve.Custom, 0, len(list))
		for _, c := range list {
			kinds = append(kinds, c.Registry.Kind())
			custom = append(custom, serve.Custom{Registry: c.Registry, Sealed: c.Sealed})
		}
		handlers.Publish(custom, discovery.New(kinds, s.reachedAt()), s.documents.With(kinds[len(all):]))
	}
	return crd.New(crd.Options{Set: s.set, Caller: webhook.New(s.clusterIP), Publish: publish, Log: s.log.Named("crd")})
}

// current lists the served versions but those that are served for old manifests alone.
func current(all []*resource.Kind) []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, k := range all {
		gvs := []schema.GroupVersion{k.GVK().GroupVersion()}
		for _, v := range k.Versions {
			if v.Deprecated == "" {
				gvs = append(gvs, schema.GroupVersion{Group: v.Names.Group, Version: v.Names.Version})
			}
		}
		for _, gv := range gvs {
			if !slices.Contains(out, gv) {
				out = append(out, gv)
			}
		}
	}
	return out
}

// reachedAt is where clients reach this server.
func (s *server) reachedAt() string { return net.JoinHostPort(s.ip.String(), fmt.Sprint(s.port)) }

// clusterIP finds where a Service is reached.
func (s *server) clusterIP(ctx context.Context, namespace, name string, port int32) (string, error) {
	obj, err := s.set.For(services).Find(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	svc, ok := obj.(*corev1.Service)
	if !ok || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return "", fmt.Errorf("service %s/%s has no cluster IP", namespace, name)
	}
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			return net.JoinHostPort(svc.Spec.ClusterIP, fmt.Sprint(port)), nil
		}
	}
	return "", fmt.Errorf("service %s/%s has no port %d", namespace, name, port)
}
