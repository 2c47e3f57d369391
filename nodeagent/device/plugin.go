package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"hardway/nodeagent/plugin"
)

// offer is the plugin of one resource. It is replaced, never changed, but for what is known of its devices.
type offer struct {
	resource string
	options  *api.DevicePluginOptions
	client   api.DevicePluginClient // nil: it has gone
	devices  map[string]bool        // by id: whether it works
}

// healthy are the devices that can be given, in order.
func (r *offer) healthy() []string {
	var out []string
	for id, ok := range r.devices {
		if ok && r.client != nil {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// choose picks n devices: first those that the pod has anyway, then any that are free.
func choose(n int, healthy []string, taken, reusable map[string]bool) (must, free []string, err error) {
	for _, id := range healthy {
		switch {
		case reusable[id] && len(must) < n:
			must = append(must, id)
		case !taken[id]:
			free = append(free, id)
		}
	}
	if len(must)+len(free) < n {
		return nil, nil, fmt.Errorf("%d devices are asked for, %d are free", n, len(must)+len(free))
	}
	return must, free, nil
}

// give chooses devices and asks the plugin what a container needs for them.
func (r *offer) give(ctx context.Context, n int, healthy []string, taken, reusable map[string]bool) (assignment, error) {
	must, free, err := choose(n, healthy, taken, reusable)
	if err != nil {
		return assignment{}, err
	}
	ids := append(slices.Clone(must), free[:n-len(must)]...)
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if r.options.GetGetPreferredAllocationAvailable() && len(must) < n {
		got, err := r.client.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{{
			AvailableDeviceIDs: append(slices.Clone(must), free...), MustIncludeDeviceIDs: must, AllocationSize: int32(n),
		}}})
		if err != nil {
			return assignment{}, fmt.Errorf("ask which devices it prefers: %w", err)
		}
		if len(got.ContainerResponses) > 0 {
			ids = prefer(ids, got.ContainerResponses[0].DeviceIDs, must, free)
		}
	}
	got, err := r.client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return assignment{}, fmt.Errorf("allocate: %w", err)
	}
	if len(got.ContainerResponses) != 1 {
		return assignment{}, fmt.Errorf("allocate: the plugin answers for %d containers, not for one", len(got.ContainerResponses))
	}
	a := got.ContainerResponses[0]
	if len(a.CdiDevices) > 0 {
		return assignment{}, fmt.Errorf("the plugin wants CDI device %s, and this node applies none", a.CdiDevices[0].Name)
	}
	return assignment{Devices: ids, Given: Given{Env: a.Envs, Mounts: a.Mounts, Devices: a.Devices}}, nil
}

// prefer is the plugin's choice, as far as it may choose: from what is free, with what must be in it; else ours.
func prefer(ours, theirs, must, free []string) []string {
	for _, id := range theirs {
		if !slices.Contains(must, id) && !slices.Contains(free, id) {
			return ours
		}
	}
	for _, id := range must {
		if !slices.Contains(theirs, id) {
			return ours
		}
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(theirs))); len(sorted) != len(ours) {
		return ours
	}
	return theirs
}

// preStart tells a plugin that wants to know that a container is about to start with its devices.
func (r *offer) preStart(ctx context.Context, ids []string) error {
	if !r.options.GetPreStartRequired() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if _, err := r.client.PreStartContainer(ctx, &api.PreStartContainerRequest{DevicesIds: ids}); err != nil {
		return fmt.Errorf("prepare devices for the container: %w", err)
	}
	return nil
}

// server is what plugins register with.
type server struct {
	api.UnimplementedRegistrationServer
	p   *Plugins
	ctx context.Context // ends with the agent
}

// Run serves registrations until ctx ends. The socket is made anew: that tells plugins that are there to register again.
func (p *Plugins) Run(ctx context.Context) error {
	dir := filepath.Join(p.Root, folder)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	socket := filepath.Join(dir, "kubelet.sock")
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for device plugins: %w", err)
	}
	g := grpc.NewServer()
	api.RegisterRegistrationServer(g, &server{p: p, ctx: ctx})
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	select {
	case <-ctx.Done():
		g.Stop()
		<-done
		return nil
	case err := <-done:
		return fmt.Errorf("serve device plugins: %w", err)
	}
}

// Register implements the registration API.
func (s *server) Register(_ context.Context, r *api.RegisterRequest) (*api.Empty, error) {
	switch {
	case r.Version != api.Version:
		return nil, status.Errorf(codes.InvalidArgument, "version %q is not supported: this node speaks %s", r.Version, api.Version)
	case !strings.Contains(r.ResourceName, "/") || strings.Contains(r.ResourceName, "kubernetes.io/"):
		return nil, status.Errorf(codes.InvalidArgument, "%q is no name of an extended resource", r.ResourceName)
	case r.Endpoint == "" || r.Endpoint != filepath.Base(r.Endpoint):
		return nil, status.Errorf(codes.InvalidArgument, "endpoint %q is no name of a socket in %s", r.Endpoint, folder)
	}
	conn, err := plugin.Dial(filepath.Join(s.p.Root, folder, r.Endpoint))
	if err != nil {
		return nil, err
	}
	o := &offer{resource: r.ResourceName, options: r.Options, client: api.NewDevicePluginClient(conn), devices: map[string]bool{}}
	s.p.mu.Lock()
	if old := s.p.all[r.ResourceName]; old != nil {
		o.devices = old.devices
	}
	s.p.all[r.ResourceName] = o
	err = s.p.save()
	s.p.mu.Unlock()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write down resource %s: %w", r.ResourceName, err), conn.Close())
	}
	s.p.Log.Info("device plugin registered", zap.String("resource", r.ResourceName))
	go func() { // ends with the plugin, or with the agent
		err := s.p.follow(s.ctx, o)
		_ = conn.Close()
		if s.ctx.Err() == nil {
			s.p.Log.Info("device plugin gone", zap.String("resource", o.resource), zap.Error(err))
		}
		s.p.lost(o)
	}()
	return &api.Empty{}, nil
}

// follow takes over what the plugin says of its devices.
func (p *Plugins) follow(ctx context.Context, o *offer) error {
	w, err := o.client.ListAndWatch(ctx, &api.Empty{})
	if err != nil {
		return err
	}
	for {
		got, err := w.Recv()
		if err != nil {
			return err
		}
		devices := map[string]bool{}
		for _, d := range got.Devices {
			devices[d.ID] = d.Health == api.Healthy
		}
		p.mu.Lock()
		o.devices = devices
		p.mu.Unlock()
		p.Changed()
	}
}

// lost leaves the resource of a plugin that has gone without anything to allocate.
func (p *Plugins) lost(o *offer) {
	p.mu.Lock()
	if p.all[o.resource] == o {
		p.all[o.resource] = &offer{resource: o.resource, devices: o.devices}
	}
	p.mu.Unlock()
	p.Changed()
}
