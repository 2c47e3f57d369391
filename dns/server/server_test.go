package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/dns/config"
	"hardway/dns/publish"
	"hardway/shared/client"
	"hardway/shared/testenv"
)

// cluster is a real apiserver and a name server beside it.
type cluster struct {
	t    *testing.T
	env  *testenv.Env
	api  *client.API
	addr string
	stop func()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, env: testenv.Start(t)}
	c.api = c.env.API()
	c.start()
	return c
}

func (c *cluster) start() {
	c.t.Helper()
	cfg := config.Default()
	cfg.NodeName, cfg.NodeIP, cfg.Listen, cfg.Port = "node-1", "192.0.2.10", "127.0.0.1", freePort(c.t)
	cfg.HealthAddress, cfg.ReadyAddress, cfg.MetricsAddress = "", "", ""
	cfg.Upstream = []string{"127.0.0.1:" + strconv.Itoa(int(freePort(c.t)))} // nobody there
	if err := cfg.Validate(); err != nil {
		c.t.Fatal(err)
	}
	c.addr = cfg.Address().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, c.env.Config(), zaptest.NewLogger(c.t, zaptest.Level(zap.InfoLevel))) }()
	stopped := false
	c.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				c.t.Errorf("the server ended with %v", err)
			}
		}
	}
	c.t.Cleanup(c.stop)
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func (c *cluster) eventually(what string, limit time.Duration, ok func() error) time.Duration {
	c.t.Helper()
	started := time.Now()
	tick := time.NewTicker(200 * time.Microsecond)
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

// says waits for an answer, given as rcode and data.
func (c *cluster) says(name string, kind uint16, want string) time.Duration {
	c.t.Helper()
	return c.eventually(name, 10*time.Second, func() error {
		m, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion(name, kind), c.addr)
		if err != nil {
			return err
		}
		got := dns.RcodeToString[m.Rcode]
		for _, rr := range m.Answer {
			got += " " + strings.Join(strings.Fields(rr.String())[4:], " ")
		}
		if got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestNamesFollowTheAPI(t *testing.T) {
	c := newCluster(t)
	c.says("default.svc.cluster.local.", dns.TypeA, "NOERROR")
	svc := must[*corev1.Service](t)(client.Services.Create(t.Context(), c.api, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}))
	t.Logf("a new service is answered within %v", c.says("web.default.svc.cluster.local.", dns.TypeA, "NOERROR "+svc.Spec.ClusterIP))
	c.says("_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, "NOERROR 0 100 80 web.default.svc.cluster.local.")

	must[*corev1.Service](t)(client.Services.Create(t.Context(), c.api, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}}))
	c.says("db.default.svc.cluster.local.", dns.TypeA, "NOERROR")
	host, port, portName := "db-0", int32(5432), "sql"
	slice := must[*discoveryv1.EndpointSlice](t)(client.EndpointSlices.Create(t.Context(), c.api, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.200.0.5"}, Hostname: &host}}}))
	t.Logf("a new endpoint is answered within %v", c.says("db-0.db.default.svc.cluster.local.", dns.TypeA, "NOERROR 10.200.0.5"))
	c.says("5.0.200.10.in-addr.arpa.", dns.TypePTR, "NOERROR db-0.db.default.svc.cluster.local.")
	c.says("_sql._tcp.db.default.svc.cluster.local.", dns.TypeSRV, "NOERROR 0 100 5432 db-0.db.default.svc.cluster.local.")
	no := false
	slice.Endpoints[0].Conditions.Ready = &no
	must[*discoveryv1.EndpointSlice](t)(client.EndpointSlices.Update(t.Context(), c.api, slice))
	c.says("db-0.db.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN")

	if err := client.Services.Delete(t.Context(), c.api, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.says("web.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
	c.env.Kill()
	c.says("db.default.svc.cluster.local.", dns.TypeA, "NOERROR")
	c.says("www.example.com.", dns.TypeA, "SERVFAIL")
}

func TestPublishing(t *testing.T) {
	c := newCluster(t)
	slice := func() (*discoveryv1.EndpointSlice, error) {
		return client.EndpointSlices.Get(t.Context(), c.api, publish.Namespace, "kube-dns-node-1")
	}
	c.eventually("the endpoint", 10*time.Second, func() error { _, err := slice(); return err })
	s := must[*discoveryv1.EndpointSlice](t)(slice())
	e := s.Endpoints[0]
	if e.Addresses[0] != "192.0.2.10" || !*e.Conditions.Ready || *e.NodeName != "node-1" || len(e.Hints.ForNodes) != 1 || len(s.Ports) != 2 ||
		s.Labels[discoveryv1.LabelServiceName] != "kube-dns" || s.Labels[discoveryv1.LabelManagedBy] != publish.ManagedBy {
		t.Errorf("the endpoint is not what it should be: %v", s)
	}
	svc := must[*corev1.Service](t)(client.Services.Get(t.Context(), c.api, publish.Namespace, publish.Service))
	if svc.Spec.ClusterIP != "10.32.0.10" || svc.Spec.TrafficDistribution == nil || *svc.Spec.TrafficDistribution != corev1.ServiceTrafficDistributionPreferSameNode {
		t.Errorf("the service is not what it should be: %v", svc.Spec)
	}
	c.says("kube-dns.kube-system.svc.cluster.local.", dns.TypeA, "NOERROR 10.32.0.10")

	// What others delete or change comes back.
	if err := client.EndpointSlices.Delete(t.Context(), c.api, publish.Namespace, s.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the endpoint again", 10*time.Second, func() error { _, err := slice(); return err })
	s = must[*discoveryv1.EndpointSlice](t)(slice())
	s.Endpoints[0].Addresses = []string{"192.0.2.66"}
	must[*discoveryv1.EndpointSlice](t)(client.EndpointSlices.Update(t.Context(), c.api, s))
	c.eventually("the right address again", 10*time.Second, func() error {
		if s, err := slice(); err != nil || s.Endpoints[0].Addresses[0] != "192.0.2.10" {
			return fmt.Errorf("got %v, %w", s, err)
		}
		return nil
	})

	c.stop()
	if _, err := slice(); !apierrors.IsNotFound(err) {
		t.Errorf("after a clean stop the endpoint is still published: %v", err)
	}
}

// TestLostNode has a peer on a node that nobody hears of any more.
func TestLostNode(t *testing.T) {
	c := newCluster(t)
	yes, name := true, "node-2"
	node := must[*corev1.Node](t)(client.Nodes.Create(t.Context(), c.api, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	must[*discoveryv1.EndpointSlice](t)(client.EndpointSlices.Create(t.Context(), c.api, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: publish.Namespace, Name: "kube-dns-node-2", Labels: map[string]string{
			discoveryv1.LabelServiceName: "kube-dns", discoveryv1.LabelManagedBy: publish.ManagedBy}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.11"}, NodeName: &name, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}}}))
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	must[*corev1.Node](t)(client.Nodes.Update(t.Context(), c.api, node, "status"))
	c.eventually("the peer is not ready", 10*time.Second, func() error {
		s, err := client.EndpointSlices.Get(t.Context(), c.api, publish.Namespace, "kube-dns-node-2")
		if err == nil && *s.Endpoints[0].Conditions.Ready {
			err = errors.New("it is ready")
		}
		return err
	})
}
