package server

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"hardway/nodeagent/image"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/podworker/pull"
	"hardway/nodeagent/probe"
	"hardway/nodeagent/runtime"
	"hardway/shared/client"
)

// images is the image store as the puller sees it.
type images struct{ store *image.Store }

// Get implements pull.Store.
func (i images) Get(ref string) (pull.Image, bool) {
	m, ok := i.store.Get(ref)
	return fromStore(m), ok
}

// Pull implements pull.Store.
func (i images) Pull(ctx context.Context, ref string, auth authn.Keychain) (pull.Image, error) {
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return pull.Image{}, err
	}
	who, err := auth.Resolve(r.Context())
	if err != nil {
		return pull.Image{}, fmt.Errorf("credentials for %s: %w", r.Context(), err)
	}
	c, err := who.Authorization()
	if err != nil {
		return pull.Image{}, fmt.Errorf("credentials for %s: %w", r.Context(), err)
	}
	m, err := i.store.Pull(ctx, ref, image.Auth{
		Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	})
	return fromStore(m), err
}

func fromStore(m image.Image) pull.Image {
	out := pull.Image{
		Image:      compose.Image{ID: m.ID, Entrypoint: m.Config.Entrypoint, Command: m.Config.Cmd, User: m.Config.User},
		StopSignal: m.Config.StopSignal, Size: m.Size,
	}
	if i := slices.IndexFunc(m.Refs, func(r string) bool { return strings.Contains(r, "@") }); i >= 0 {
		out.Digest = m.Refs[i]
	}
	return out
}

// nodeImages lists the images for the Node's status, the largest first.
func (i images) nodeImages(most int) ([]corev1.ContainerImage, error) {
	list, err := i.store.List()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b image.Image) int { return int(b.Size>>10) - int(a.Size>>10) })
	var out []corev1.ContainerImage
	for _, m := range list[:min(len(list), most)] {
		if len(m.Refs) > 0 {
			out = append(out, corev1.ContainerImage{Names: m.Refs[:min(len(m.Refs), 5)], SizeBytes: m.Size})
		}
	}
	return out, nil
}

// nodes, leases and source tie kinds to the connection.
type nodes struct{ api *client.API }

// Get implements node.API.
func (n nodes) Get(ctx context.Context, name string) (*corev1.Node, error) {
	return client.Nodes.Get(ctx, n.api, "", name)
}

// Create implements node.API.
func (n nodes) Create(ctx context.Context, o *corev1.Node) (*corev1.Node, error) {
	return client.Nodes.Create(ctx, n.api, o)
}

// Patch implements node.API.
func (n nodes) Patch(ctx context.Context, name string, data []byte, subresource ...string) (*corev1.Node, error) {
	return client.Nodes.Patch(ctx, n.api, "", name, types.StrategicMergePatchType, data, subresource...)
}

type leases struct{ api *client.API }

// Get implements node.LeaseAPI.
func (l leases) Get(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return client.Leases.Get(ctx, l.api, namespace, name)
}

// Create implements node.LeaseAPI.
func (l leases) Create(ctx context.Context, o *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return client.Leases.Create(ctx, l.api, o)
}

// Update implements node.LeaseAPI.
func (l leases) Update(ctx context.Context, o *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return client.Leases.Update(ctx, l.api, o)
}

// source reads one kind for the cache of referenced objects.
type source[T, L any] struct {
	api   *client.API
	kind  client.Kind[T, L]
	items func(*L) ([]T, string)
}

// Get implements objects.Source.
func (s source[T, L]) Get(ctx context.Context, namespace, name string) (*T, error) {
	return s.kind.Get(ctx, s.api, namespace, name)
}

// List implements objects.Source.
func (s source[T, L]) List(ctx context.Context, namespace string, o metav1.ListOptions) ([]T, string, error) {
	l, err := s.kind.List(ctx, s.api, namespace, o)
	if err != nil {
		return nil, "", err
	}
	list, version := s.items(l)
	return list, version, nil
}

// Watch implements objects.Source.
func (s source[T, L]) Watch(ctx context.Context, namespace string, o metav1.ListOptions) (watch.Interface, error) {
	return s.kind.Watch(ctx, s.api, namespace, o)
}

// execs runs commands for hooks and probes.
type execs struct{ runtime *runtime.Runtime }

// run gives out both streams of the command.
func (e execs) run(ctx context.Context, uid types.UID, id string, cmd []string, out io.Writer) (int, error) {
	w := nopCloser{out}
	return e.runtime.Exec(ctx, uid, id, cmd, runtime.Streams{Stdout: w, Stderr: w})
}

// probe returns the beginning of the output.
func (e execs) probe(ctx context.Context, uid types.UID, id string, cmd []string) (int, string, error) {
	var out probe.Output
	code, err := e.run(ctx, uid, id, cmd, &out)
	return code, out.String(), err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
