// Package csitest is a small CSI driver for tests: its volumes are folders of a base folder that it mounts where it is
// told to, or device nodes. It registers with the node agent like any other driver, notes every call, and fails or hangs
// when it is told to. It is used by tests only.
package csitest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Driver is the driver. Its fields must not change while it serves.
type Driver struct {
	Name     string
	Node     string // id of the node
	Root     string // of the node agent
	Base     string // where volumes are kept
	Topology map[string]string
	Most     int64 // volumes on the node; 0: any
	Can      []csi.NodeServiceCapability_RPC_Type

	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer

	mu      sync.Mutex // guards all below
	calls   []Call
	fail    map[string]error
	hang    map[string]chan struct{}
	servers []*grpc.Server
	told    []*registration.RegistrationStatus
}

// Call is one call that the driver has got.
type Call struct {
	Method, Volume string
	Request        any
}

func (c Call) String() string { return c.Method + " " + c.Volume }

// Start serves until Stop, and announces the driver.
func (d *Driver) Start() error {
	endpoint := filepath.Join(d.Root, "plugins", d.Name, "csi.sock")
	announce := filepath.Join(d.Root, "plugins_registry", d.Name+"-reg.sock")
	err := d.serve(endpoint, func(s *grpc.Server) {
		csi.RegisterIdentityServer(s, d)
		csi.RegisterNodeServer(s, d)
	})
	if err == nil {
		err = d.serve(announce, func(s *grpc.Server) { registration.RegisterRegistrationServer(s, d) })
	}
	return err
}

func (d *Driver) serve(socket string, register func(*grpc.Server)) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	register(s)
	d.mu.Lock()
	d.servers = append(d.servers, s)
	d.mu.Unlock()
	go s.Serve(l) //nolint:errcheck // ends with Stop
	return nil
}

// Stop ends the driver; calls under way are cut off. Its sockets go with it.
func (d *Driver) Stop() {
	d.mu.Lock()
	servers := d.servers
	d.servers = nil
	d.mu.Unlock()
	for _, s := range servers {
		s.Stop()
	}
}

// Calls returns what has been asked of the driver, one line for each call that changed something.
func (d *Driver) Calls() []Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Fail has a method answer with an error, or, with nil, work again.
func (d *Driver) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		d.fail = map[string]error{}
	}
	d.fail[method] = err
}

// Hang has calls of a volume hang until the function that it returns is called.
func (d *Driver) Hang(volume string) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang == nil {
		d.hang = map[string]chan struct{}{}
	}
	c := make(chan struct{})
	d.hang[volume] = c
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.hang, volume)
		close(c)
	})
}

// Told returns what the node agent has said about the registration.
func (d *Driver) Told() []*registration.RegistrationStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.told)
}

// called notes a call and says how it is to go on.
func (d *Driver) called(ctx context.Context, method, volume string, request any) error {
	d.mu.Lock()
	d.calls = append(d.calls, Call{method, volume, request})
	err, hang := d.fail[method], d.hang[volume]
	d.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// GetInfo implements the registration API.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: d.Name, Endpoint: filepath.Join(d.Root, "plugins", d.Name, "csi.sock"), SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus implements the registration API.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, s)
	return &registration.RegistrationStatusResponse{}, nil
}

// NodeGetInfo implements csi.NodeServer.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.Node, MaxVolumesPerNode: d.Most, AccessibleTopology: &csi.Topology{Segments: d.Topology}}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	out := &csi.NodeGetCapabilitiesResponse{}
	for _, c := range d.Can {
		out.Capabilities = append(out.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: c}}})
	}
	return out, nil
}

// Folder is where the content of a volume is.
func (d *Driver) Folder(volume string) string { return filepath.Join(d.Base, volume) }

// NodeStageVolume implements csi.NodeServer.
func (d *Driver) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := d.called(ctx, "NodeStageVolume", r.VolumeId, r); err != nil {
		return nil, err
	}
	if r.VolumeCapability.GetBlock() != nil {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	return &csi.NodeStageVolumeResponse{}, d.bind(d.Folder(r.VolumeId), r.StagingTargetPath, false)
}

// NodeUnstageVolume implements csi.NodeServer.
func (d *Driver) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := d.called(ctx, "NodeUnstageVolume", r.VolumeId, r); err != nil {
		return nil, err
	}
	return &csi.NodeUnstageVolumeResponse{}, unmount(r.StagingTargetPath)
}

// NodePublishVolume implements csi.NodeServer.
func (d *Driver) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := d.called(ctx, "NodePublishVolume", r.VolumeId, r); err != nil {
		return nil, err
	}
	if r.VolumeCapability.GetBlock() != nil {
		err := unix.Mknod(r.TargetPath, unix.S_IFBLK|0o660, int(unix.Mkdev(7, 200)))
		if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		return &csi.NodePublishVolumeResponse{}, err
	}
	source := r.StagingTargetPath
	if source == "" {
		source = d.Folder(r.VolumeId)
	}
	return &csi.NodePublishVolumeResponse{}, d.bind(source, r.TargetPath, r.Readonly)
}

// NodeUnpublishVolume implements csi.NodeServer.
func (d *Driver) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := d.called(ctx, "NodeUnpublishVolume", r.VolumeId, r); err != nil {
		return nil, err
	}
	if err := unmount(r.TargetPath); err != nil {
		return nil, err
	}
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume implements csi.NodeServer.
func (d *Driver) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := d.called(ctx, "NodeExpandVolume", r.VolumeId, r); err != nil {
		return nil, err
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: r.CapacityRange.GetRequiredBytes()}, nil
}

// NodeGetVolumeStats implements csi.NodeServer.
func (d *Driver) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := d.called(ctx, "NodeGetVolumeStats", r.VolumeId, r); err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: 1000, Used: 400, Available: 600}, {Unit: csi.VolumeUsage_INODES, Total: 100, Used: 4, Available: 96},
	}}, nil
}

// bind mounts source on at, unless that has been done.
func (d *Driver) bind(source, at string, readOnly bool) error {
	for _, dir := range []string{source, at} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if mounted(at) {
		return nil
	}
	if err := unix.Mount(source, at, "", unix.MS_BIND, ""); err != nil {
		return status.Error(codes.Internal, fmt.Sprintf("mount %s on %s: %v", source, at, err))
	}
	if readOnly {
		return unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

// mounted compares the mount that a folder lies in with its parent's.
func mounted(dir string) bool {
	id := func(p string) uint64 {
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_MNT_ID, &st) != nil {
			return 0
		}
		return st.Mnt_id
	}
	return id(dir) != id(filepath.Dir(dir))
}

func unmount(at string) error {
	if err := unix.Unmount(at, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return status.Error(codes.Internal, fmt.Sprintf("unmount %s: %v", at, err))
	}
	return nil
}
