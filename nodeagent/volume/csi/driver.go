package csi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	storagev1 "k8s.io/api/storage/v1"

	"hardway/nodeagent/plugin"
)

const (
	callLimit  = 2 * time.Minute // of one call to a driver
	greetLimit = 30 * time.Second
	greetEvery = 500 * time.Millisecond
)

// Drivers are the CSI drivers of the node, as they have registered.
type Drivers struct {
	// Node keeps what the API says of the node's drivers.
	Node *Node
	// Changed is called when a driver has come.
	Changed func()

	mu  sync.Mutex // guards all
	all map[string]*driver
}

// driver is one of them. It does not change.
type driver struct {
	name, endpoint string
	conn           *grpc.ClientConn
	node           csi.NodeClient
	can            map[csi.NodeServiceCapability_RPC_Type]bool
}

func (d *driver) stages() bool { return d.can[csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME] }

// get returns a driver by name.
func (s *Drivers) get(name string) (*driver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.all[name]; d != nil {
		return d, nil
	}
	if len(s.all) == 0 {
		return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
	}
	return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers, which has %s", name,
		strings.Join(slices.Sorted(maps.Keys(s.all)), ", "))
}

// Register implements plugin.Handler.
func (s *Drivers) Register(ctx context.Context, p plugin.Info) error {
	if p.Name == "" || strings.Contains(p.Name, "/") {
		return fmt.Errorf("%q is no name for a CSI driver", p.Name)
	}
	if !slices.ContainsFunc(p.Versions, isVersion1) {
		return fmt.Errorf("CSI driver %s speaks CSI %s: this node speaks 1.x", p.Name, strings.Join(p.Versions, ", "))
	}
	conn, err := plugin.Dial(p.Endpoint)
	if err != nil {
		return err
	}
	d := &driver{name: p.Name, endpoint: p.Endpoint, conn: conn, node: csi.NewNodeClient(conn)}
	info, err := d.greet(ctx)
	if err == nil {
		err = s.Node.Install(ctx, entry(p.Name, info), info.GetAccessibleTopology().GetSegments())
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s.mu.Lock()
	if s.all == nil {
		s.all = map[string]*driver{}
	}
	old := s.all[p.Name]
	s.all[p.Name] = d
	s.mu.Unlock()
	if old != nil {
		_ = old.conn.Close() // calls under way end with an error and are made again
	}
	s.Changed()
	return nil
}

func isVersion1(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "v"), "1.") }

// greet asks the driver about the node and itself; it may need a moment after it has announced itself.
func (d *driver) greet(ctx context.Context) (*csi.NodeGetInfoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	for {
		info, err := d.node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
		var can *csi.NodeGetCapabilitiesResponse
		if err == nil {
			can, err = d.node.NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
		}
		switch {
		case err == nil && info.NodeId == "":
			return nil, fmt.Errorf("CSI driver %s gives this node no id", d.name)
		case err == nil:
			d.can = map[csi.NodeServiceCapability_RPC_Type]bool{}
			for _, c := range can.Capabilities {
				d.can[c.GetRpc().GetType()] = true
			}
			return info, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("ask CSI driver %s about the node: %w", d.name, err)
		case <-time.After(greetEvery):
		}
	}
}

func entry(name string, info *csi.NodeGetInfoResponse) storagev1.CSINodeDriver {
	d := storagev1.CSINodeDriver{
		Name: name, NodeID: info.NodeId, TopologyKeys: slices.Sorted(maps.Keys(info.GetAccessibleTopology().GetSegments())),
	}
	if n := info.MaxVolumesPerNode; n > 0 {
		d.Allocatable = &storagev1.VolumeNodeResources{Count: new(int32(min(n, 1<<31-1)))}
	}
	return d
}

// Deregister implements plugin.Handler.
func (s *Drivers) Deregister(ctx context.Context, p plugin.Info) {
	s.mu.Lock()
	d := s.all[p.Name]
	if d == nil || d.endpoint != p.Endpoint {
		s.mu.Unlock()
		return
	}
	delete(s.all, p.Name)
	s.mu.Unlock()
	_ = d.conn.Close() // nothing is lost with it
	s.Node.Uninstall(ctx, p.Name)
}
