package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/netproxy/announce"
	"hardway/netproxy/config"
	"hardway/netproxy/conntrack"
	"hardway/netproxy/kernel"
	"hardway/netproxy/netlab"
	"hardway/netproxy/plan"
	"hardway/shared/client"
	"hardway/shared/testenv"
)

// cluster is a real apiserver and a proxy that works on a lab's node.
type cluster struct {
	*netlab.Lab
	t    *testing.T
	env  *testenv.Env
	api  *client.API
	cfg  *config.Config
	stop func()
	link announce.Link
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Lab: netlab.New(t), t: t, env: testenv.Start(t), cfg: config.Default()}
	c.api = c.env.API()
	c.cfg.NodeName, c.cfg.ClusterCIDR = "node", netlab.PodCIDR.String()
	c.cfg.HealthzAddress, c.cfg.MetricsAddress = "127.0.0.1:0", ""
	c.start()
	return c
}

// start runs the proxy; c.stop ends it.
func (c *cluster) start() {
	c.t.Helper()
	k, err := kernel.Open(c.Node.FD(), []plan.Family{plan.IPv4, plan.IPv6})
	if err != nil {
		c.t.Fatal(err)
	}
	flows, err := conntrack.Open(c.Node.FD())
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, c.cfg, node{kernel: k, flows: flows, link: c.link}, c.env.Config(), zaptest.NewLogger(c.t, zaptest.Level(zap.InfoLevel)))
	}()
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("the proxy ended with %v", err)
		}
		_ = k.Close()
		flows.Close()
	}
	c.t.Cleanup(c.stop)
}

// eventually waits for a condition and says how long it took.
func (c *cluster) eventually(what string, limit time.Duration, ok func() error) time.Duration {
	c.t.Helper()
	started := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		err := ok()
		if err == nil {
			return time.Since(started)
		}
		if time.Since(started) > limit {
			c.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
	}
}

func (c *cluster) answers(from *netlab.Space, to string, servers ...string) func() error {
	return func() error {
		server, _, err := from.AskTCP(to)
		if err == nil && !slices.Contains(servers, server) {
			err = fmt.Errorf("%s answered", server)
		}
		return err
	}
}

func (c *cluster) service(name string) *corev1.Service {
	c.t.Helper()
	s, err := client.Services.Create(c.t.Context(), c.api, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *cluster) slice(name, service string, to ...*netlab.Space) *discoveryv1.EndpointSlice {
	port, portName, node := int32(8080), "http", "node"
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port}}}
	for _, p := range to {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{p.Addr.String()}, NodeName: &node})
	}
	return s
}

// TestServiceJourney follows a service from its creation to its deletion, through a restart of the proxy.
func TestServiceJourney(t *testing.T) {
	c := newCluster(t)
	one, two, pod := c.Pod(), c.Pod(), c.Pod()
	one.ServeTCP(8080)
	two.ServeTCP(8080)
	svc := c.service("web")
	vip, nodePort := svc.Spec.ClusterIP+":80", fmt.Sprintf("%s:%d", netlab.NodeAddr, svc.Spec.Ports[0].NodePort)
	took := c.eventually("refusal of a service without endpoints", 10*time.Second, func() error {
		if _, _, err := pod.AskTCP(vip); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	t.Logf("refused after %v", took)

	slice, err := client.EndpointSlices.Create(t.Context(), c.api, c.slice("web-1", "web", one))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("answered %v after the slice was created", c.eventually("first endpoint", 5*time.Second, c.answers(pod, vip, one.Name)))
	c.eventually("node port", 5*time.Second, c.answers(c.Outside, nodePort, one.Name))

	slice.Endpoints = c.slice("", "", two).Endpoints
	if slice, err = client.EndpointSlices.Update(t.Context(), c.api, slice); err != nil {
		t.Fatal(err)
	}
	t.Logf("swapped within %v", c.eventually("swap", 5*time.Second, c.answers(pod, vip, two.Name)))

	conn, err := pod.DialTCP(vip)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c.stop()
	if err := c.answers(pod, vip, two.Name)(); err != nil {
		t.Errorf("without the proxy running: %v", err)
	}
	slice.Endpoints = c.slice("", "", one).Endpoints
	if _, err = client.EndpointSlices.Update(t.Context(), c.api, slice); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.eventually("after a restart", 10*time.Second, c.answers(pod, vip, one.Name))
	if err := conn.Echo("still there?"); err != nil {
		t.Errorf("an established connection after a restart: %v", err)
	}

	if err := client.Services.Delete(t.Context(), c.api, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the node port is gone", 5*time.Second, func() error {
		if _, _, err := c.Outside.AskTCP(nodePort); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got: %w", err)
		}
		return nil
	})
}

// TestRepair has somebody delete the tables under a running proxy.
func TestRepair(t *testing.T) {
	c := newCluster(t)
	one, pod := c.Pod(), c.Pod()
	one.ServeTCP(8080)
	svc := c.service("web")
	if _, err := client.EndpointSlices.Create(t.Context(), c.api, c.slice("web-1", "web", one)); err != nil {
		t.Fatal(err)
	}
	vip := svc.Spec.ClusterIP + ":80"
	c.eventually("the service", 10*time.Second, c.answers(pod, vip, one.Name))
	other, err := kernel.Open(c.Node.FD(), []plan.Family{plan.IPv4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := other.Cleanup(); err != nil {
		t.Fatal(err)
	}
	t.Logf("repaired within %v", c.eventually("repair", 2*lookEvery, c.answers(pod, vip, one.Name)))
}

// TestAPIGone keeps services working while the apiserver is away, and catches up afterwards.
func TestAPIGone(t *testing.T) {
	c := newCluster(t)
	one, two, pod := c.Pod(), c.Pod(), c.Pod()
	one.ServeTCP(8080)
	two.ServeTCP(8080)
	svc := c.service("web")
	if _, err := client.EndpointSlices.Create(t.Context(), c.api, c.slice("web-1", "web", one)); err != nil {
		t.Fatal(err)
	}
	vip := svc.Spec.ClusterIP + ":80"
	c.eventually("the service", 10*time.Second, c.answers(pod, vip, one.Name))
	address := c.env.Address
	c.env.Kill()
	if err := c.answers(pod, vip, one.Name)(); err != nil {
		t.Errorf("without an apiserver: %v", err)
	}
	c.env.Relaunch(address)
	slice, err := client.EndpointSlices.Get(t.Context(), c.api, "default", "web-1")
	if err != nil {
		t.Fatal(err)
	}
	slice.Endpoints = c.slice("", "", two).Endpoints
	if _, err := client.EndpointSlices.Update(t.Context(), c.api, slice); err != nil {
		t.Fatal(err)
	}
	c.eventually("a change after the apiserver came back", 60*time.Second, c.answers(pod, vip, two.Name))
}
