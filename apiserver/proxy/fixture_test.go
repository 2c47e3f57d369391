package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"hardway/apiserver/request"
	"hardway/shared/testenv/certs"
)

// objects are fixed objects by name, all in namespace ns.
type objects struct {
	pods     map[string]*corev1.Pod
	nodes    map[string]*corev1.Node
	services map[string]*corev1.Service
	slices   []*discoveryv1.EndpointSlice
}

func find[T any](m map[string]*T, resource, name string) (*T, error) {
	if obj := m[name]; obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

func (o *objects) Pod(_ context.Context, _, name string) (*corev1.Pod, error) {
	return find(o.pods, "pods", name)
}
func (o *objects) Node(_ context.Context, name string) (*corev1.Node, error) {
	return find(o.nodes, "nodes", name)
}
func (o *objects) Service(_ context.Context, _, name string) (*corev1.Service, error) {
	return find(o.services, "services", name)
}
func (o *objects) Slices(context.Context, string, string) ([]*discoveryv1.EndpointSlice, error) {
	return o.slices, nil
}

// cluster is an apiserver with this package's handlers in front of one node, all on real TLS sockets.
type cluster struct {
	*objects
	proxy  *Proxy
	client *rest.Config
	url    string
	host   string // of the node's agent
	port   int
}

// newCluster starts a node agent that serves node and demands the apiserver's certificate, and an apiserver before it.
// Pod "web" runs on it.
func newCluster(t *testing.T, node http.Handler) *cluster {
	t.Helper()
	ca, err := certs.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	agent := httptest.NewUnstartedServer(node)
	agent.TLS = &tls.Config{Certificates: []tls.Certificate{issue(t, ca, certs.Leaf{CommonName: "node", Hosts: []string{"127.0.0.1"}})},
		ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	agent.StartTLS()
	t.Cleanup(agent.Close)

	host, port, err := net.SplitHostPort(agent.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{objects: &objects{}, host: host, port: number}
	c.nodes = map[string]*corev1.Node{"n1": {ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: host}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(number)}},
	}}}
	c.pods = map[string]*corev1.Pod{
		"web":     pod("web", "n1", "main"),
		"two":     pod("two", "n1", "a", "b"),
		"waiting": pod("waiting", "", "main"),
	}
	mine := issue(t, ca, certs.Leaf{CommonName: "apiserver"})
	c.proxy = New(Options{Objects: c, Log: zap.NewNop(), NodeTLS: func(name string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: roots, Certificates: []tls.Certificate{mine}}
	}})
	t.Cleanup(c.proxy.Close)
	front := httptest.NewTLSServer(http.HandlerFunc(c.serve))
	t.Cleanup(front.Close)
	c.url = front.URL
	c.client = &rest.Config{Host: front.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, BearerToken: "secret"}
	return c
}

func issue(t *testing.T, ca *certs.CA, l certs.Leaf) tls.Certificate {
	t.Helper()
	leaf, err := ca.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(leaf.CertPEM, leaf.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// serve is as much of an apiserver as the handlers need.
func (c *cluster) serve(w http.ResponseWriter, r *http.Request) {
	info, err := request.Parse(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	handler := c.proxy.Handlers()[info.Resource+"/"+info.Subresource]
	if handler == nil {
		http.NotFound(w, r)
		return
	}
	if err := handler(w, r, info); err != nil {
		code := http.StatusInternalServerError
		if status, ok := err.(apierrors.APIStatus); ok {
			code = int(status.Status().Code)
		}
		http.Error(w, err.Error(), code)
	}
}

// path is a subresource's URL in namespace ns.
func (c *cluster) path(rest string) string { return c.url + "/api/v1/namespaces/ns/" + rest }

func (c *cluster) http(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func pod(name, node string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Spec: corev1.PodSpec{NodeName: node}}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
	}
	return p
}
