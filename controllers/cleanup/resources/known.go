package resources

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/client-go/rest"
)

// Known remembers what is served, and asks again for a kind that is not known. It is safe for concurrent use.
type Known struct {
	finder *Finder

	mu  sync.Mutex // guards set
	set Set
}

// NewKnown makes an empty Known for the API server of the configuration.
func NewKnown(cfg *rest.Config) (*Known, error) {
	f, err := NewFinder(cfg)
	if err != nil {
		return nil, err
	}
	return &Known{finder: f}, nil
}

// ByKind finds the resource of a kind.
func (k *Known) ByKind(ctx context.Context, group, kind string) (Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r, ok := k.set.ByKind(group, kind); ok {
		return r, nil
	}
	set, err := k.finder.Find(ctx)
	if err != nil {
		return Resource{}, err
	}
	k.set = set
	if r, ok := set.ByKind(group, kind); ok {
		return r, nil
	}
	return Resource{}, fmt.Errorf("no kind %s is served in group %q", kind, group)
}

// At is the path of a subresource of an object in a namespace.
func (r Resource) At(namespace, name, subresource string) string {
	if r.Group == "" {
		return path.Join("api", r.Version, "namespaces", namespace, r.Resource, name, subresource)
	}
	return path.Join("apis", r.Group, r.Version, "namespaces", namespace, r.Resource, name, subresource)
}

// Scale reads the scale of an object of any kind that has one.
func (k *Known) Scale(ctx context.Context, namespace, group, kind, name string) (*autoscalingv1.Scale, error) {
	r, err := k.ByKind(ctx, group, kind)
	if err != nil {
		return nil, err
	}
	at := r.At(namespace, name, "scale")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.finder.base.JoinPath(at).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", at, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.finder.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", at, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", at, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read /%s: %s", at, resp.Status)
	}
	s := &autoscalingv1.Scale{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("decode /%s: %w", at, err)
	}
	return s, nil
}
