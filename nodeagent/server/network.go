package server

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/network"
	"hardway/shared/client"
)

// runNetwork sets the pod network up as soon as the node has a range of addresses.
func (a *agent) runNetwork(ctx context.Context) error {
	ranges := make(chan string, 1)
	offer := func(n *corev1.Node) {
		cidr := a.cfg.Kubelet.PodCIDR
		if n != nil && n.Spec.PodCIDR != "" {
			cidr = n.Spec.PodCIDR
		}
		select {
		case <-ranges:
		default:
		}
		if cidr != "" {
			ranges <- cidr
		}
	}
	a.informer.node.OnChange(func(_, now *corev1.Node) { offer(now) })
	current := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case cidr := <-ranges:
			if cidr == current {
				continue
			}
			if err := a.setUpNetwork(ctx, cidr); err != nil {
				a.log.Error("pod network", zap.String("podCIDR", cidr), zap.Error(err))
				a.setReady(fmt.Errorf("network not ready: %w", err))
			} else {
				current = cidr
				a.log.Info("pod network ready", zap.String("podCIDR", cidr))
				a.setReady(nil)
			}
			a.node.Poke()
			a.workers.WakeAll()
		}
	}
}

func (a *agent) setUpNetwork(ctx context.Context, cidr string) error {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return err
	}
	all, err := netip.ParsePrefix(a.cfg.ClusterCIDR)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(a.ips[0])
	if err != nil {
		return err
	}
	return a.network.Setup(ctx, network.Config{
		PodCIDR: p, ClusterCIDR: all, Bridge: a.cfg.Bridge, NodeIP: ip, Mode: network.Mode(a.cfg.NetworkMode),
	})
}

// Peers that could not be connected are tried again: first soon, then seldom.
const (
	firstPeerRetry = time.Second
	lastPeerRetry  = time.Minute
)

// runPeers keeps the ways to other nodes' pods as the Node objects say. While the API cannot be reached they stay.
func (a *agent) runPeers(ctx context.Context) error {
	in := client.NewInformers(a.api, a.log.Named("watch"))
	nodes := client.Nodes.Informer(in, client.Options{Transform: slimNode})
	changed := make(chan struct{}, 1)
	nodes.OnChange(func(old, now *corev1.Node) {
		if old != nil && now != nil && peerOf(old) == peerOf(now) {
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	stopped := make(chan error, 1)
	go func() { stopped <- in.Run(ctx) }()
	if in.WaitForSync(ctx) {
		a.followPeers(ctx, nodes, changed)
	}
	return <-stopped
}

func (a *agent) followPeers(ctx context.Context, nodes *client.Informer[corev1.Node], changed <-chan struct{}) {
	pause := firstPeerRetry
	var again <-chan time.Time
	for {
		err := a.network.SetPeers(ctx, a.peers(nodes))
		if again = nil; err == nil {
			pause = firstPeerRetry
		} else if ctx.Err() == nil {
			a.log.Warn("pods of some nodes cannot be reached", zap.Error(err), zap.Duration("again", pause))
			again = time.After(pause)
			pause = min(2*pause, lastPeerRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// peers are all other nodes that have an address and a range.
func (a *agent) peers(nodes *client.Informer[corev1.Node]) []network.Peer {
	out := []network.Peer{}
	for n := range nodes.All() {
		if p := peerOf(n); n.Name != a.cfg.Hostname && p.Address.IsValid() && p.PodCIDR.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// peerOf reads from a Node what the network needs. A part that is missing or malformed stays invalid.
func peerOf(n *corev1.Node) network.Peer {
	p := network.Peer{Name: n.Name}
	p.PodCIDR, _ = netip.ParsePrefix(n.Spec.PodCIDR) //nolint:errcheck // stays invalid
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil && ip.Is4() {
			p.Address = ip
			break
		}
	}
	return p
}

// slimNode keeps what peerOf reads.
func slimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion},
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR}, Status: corev1.NodeStatus{Addresses: n.Status.Addresses},
	}, nil
}
