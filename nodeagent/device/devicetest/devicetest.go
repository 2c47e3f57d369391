// Package devicetest is a small device plugin for tests: it offers devices that are all /dev/null in truth, and notes which
// of them are about to be used. It is used by tests only.
package devicetest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"hardway/nodeagent/plugin"
)

// Plugin is the device plugin.
type Plugin struct {
	api.UnimplementedDevicePluginServer
	server  *grpc.Server
	devices chan []*api.Device

	mu      sync.Mutex // guards all below
	prefer  []string
	started []string
}

// Start serves in a folder for device plugins and registers for a resource. Devices are named as for Offer.
func Start(ctx context.Context, dir, resource string, options *api.DevicePluginOptions, devices ...string) (*Plugin, error) {
	p := &Plugin{devices: make(chan []*api.Device, 10), server: grpc.NewServer()}
	api.RegisterDevicePluginServer(p.server, p)
	const name = "test.sock"
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	go p.server.Serve(l) //nolint:errcheck // ends with Stop
	p.Offer(devices...)
	conn, err := plugin.Dial(filepath.Join(dir, "kubelet.sock"))
	if err != nil {
		return p, err
	}
	defer conn.Close()
	_, err = api.NewRegistrationClient(conn).Register(ctx,
		&api.RegisterRequest{Version: api.Version, Endpoint: name, ResourceName: resource, Options: options}, grpc.WaitForReady(true))
	return p, err
}

// Stop ends the plugin.
func (p *Plugin) Stop() { p.server.Stop() }

// Offer lists the devices; one whose name ends in ! is broken.
func (p *Plugin) Offer(devices ...string) {
	var list []*api.Device
	for _, d := range devices {
		id, broken := strings.CutSuffix(d, "!")
		health := api.Healthy
		if broken {
			health = api.Unhealthy
		}
		list = append(list, &api.Device{ID: id, Health: health})
	}
	p.devices <- list
}

// Prefer says which devices the plugin chooses when it is asked.
func (p *Plugin) Prefer(devices ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prefer = devices
}

// Started lists the devices that were about to be used.
func (p *Plugin) Started() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.started)
}

// ListAndWatch implements the device plugin API.
func (p *Plugin) ListAndWatch(_ *api.Empty, s api.DevicePlugin_ListAndWatchServer) error {
	for {
		select {
		case d := <-p.devices:
			if err := s.Send(&api.ListAndWatchResponse{Devices: d}); err != nil {
				return err
			}
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// GetPreferredAllocation implements the device plugin API.
func (p *Plugin) GetPreferredAllocation(context.Context, *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &api.PreferredAllocationResponse{ContainerResponses: []*api.ContainerPreferredAllocationResponse{{DeviceIDs: p.prefer}}}, nil
}

// Allocate implements the device plugin API: a container gets /dev/gpu and the names of its devices in GPUS.
func (p *Plugin) Allocate(_ context.Context, r *api.AllocateRequest) (*api.AllocateResponse, error) {
	return &api.AllocateResponse{ContainerResponses: []*api.ContainerAllocateResponse{{
		Envs:    map[string]string{"GPUS": strings.Join(r.ContainerRequests[0].DevicesIds, ",")},
		Devices: []*api.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/gpu", Permissions: "rw"}},
	}}}, nil
}

// PreStartContainer implements the device plugin API.
func (p *Plugin) PreStartContainer(_ context.Context, r *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = append(p.started, r.DevicesIds...)
	return &api.PreStartContainerResponse{}, nil
}
