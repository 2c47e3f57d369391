package ingress

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/netproxy/ingress/route"
	"hardway/netproxy/state"
	"hardway/shared/client"
	"hardway/shared/daemon"
	"hardway/shared/testenv"
)

// world is a real apiserver and a proxy; pods are servers of this process, reached by the pods' addresses.
type world struct {
	t   *testing.T
	api *client.API

	mu    sync.Mutex
	pods  map[string]string // where an endpoint really is; guarded by mu
	ports map[string]string // "http" and "https" as they listen; guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, api: testenv.Start(t).API(), pods: map[string]string{}, ports: map[string]string{}}
	p := New(w.api, Config{Node: "n1", HTTP: "http", HTTPS: "https", Certificate: state.Name{Namespace: "default", Name: "wild"}, AccessLog: true},
		prometheus.NewRegistry(), zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)))
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		w.mu.Lock()
		real := w.pods[address]
		w.mu.Unlock()
		if real == "" {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("nobody there")}
		}
		return (&net.Dialer{}).DialContext(ctx, network, real)
	}
	p.listen = func(name string) (net.Listener, error) {
		l, err := daemon.Listen("127.0.0.1:0")
		if err == nil {
			w.mu.Lock()
			w.ports[name] = l.Addr().String()
			w.mu.Unlock()
		}
		return l, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// pod makes a server that is reached at address.
func (w *world) pod(address, name string, protocols *http.Protocols) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "echo" {
			echo(out)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(out, "%s %s %s %s from %s by %s %s", name, r.Proto, r.Host, r.URL, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), body)
	}))
	s.Config.Protocols = protocols
	s.Start()
	w.t.Cleanup(s.Close)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods[address] = s.Listener.Addr().String()
}

// echo takes the connection over and returns each line.
func echo(out http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(out).Hijack()
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // it ends here
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprint(conn, "echo "+line)
	}
}

func create[T, L any](w *world, k client.Kind[T, L], obj *T) *T {
	w.t.Helper()
	out, err := k.Create(w.t.Context(), w.api, obj)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name}
}

// service makes a Service with endpoints.
func (w *world) service(name, appProtocol string, endpoints ...string) {
	w.t.Helper()
	s := &corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}}
	if appProtocol != "" {
		s.Spec.Ports[0].AppProtocol = &appProtocol
	}
	create(w, client.Services, s)
	if len(endpoints) == 0 {
		return
	}
	port, portName := int32(8080), "web"
	slice := &discoveryv1.EndpointSlice{ObjectMeta: named(name), AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port}}}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{e}})
	}
	create(w, client.EndpointSlices, slice)
}

// keyPair is a certificate for hosts, as the data of a Secret.
func keyPair(t *testing.T, serial int64, hosts ...string) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: hosts, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{corev1.TLSCertKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}
}

func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			w.t.Fatalf("%s: %v", what, err)
		}
	}
}

func (w *world) port(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ports[name]
}

// ask sends a request and returns status and body. The host's name leads to the proxy.
func (w *world) ask(method, url string, body string, header ...string) (*http.Response, string, error) {
	transport := &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the test looks itself
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			name := "http"
			if strings.HasSuffix(address, ":443") {
				name = "https"
			}
			return (&net.Dialer{}).DialContext(ctx, network, w.port(name))
		}}
	r, err := http.NewRequestWithContext(w.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close() //nolint:errcheck // it is read
	data, err := io.ReadAll(response.Body)
	return response, strings.TrimSpace(string(data)), err
}

func (w *world) want(method, url, body string, status int, want string, header ...string) {
	w.t.Helper()
	response, got, err := w.ask(method, url, body, header...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, url, err)
	}
	if response.StatusCode != status || !strings.HasPrefix(got, want) {
		w.t.Errorf("%s %s: %d %q, want %d %q", method, url, response.StatusCode, got, status, want)
	}
}

// serial is the number of the certificate that a host shows.
func (w *world) serial(host string) (int64, error) {
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}} //nolint:gosec // the test looks itself
	conn, err := d.DialContext(w.t.Context(), "tcp", w.port("https"))
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestIngress(t *testing.T) {
	w := newWorld(t)
	w.pod("10.200.0.1:8080", "one", nil)
	w.pod("10.200.0.2:8080", "two", nil)
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	w.pod("10.200.0.3:8080", "h2c", h2c)
	w.service("web", "", "10.200.0.1", "10.200.0.9") // nobody listens at the second
	w.service("api", "", "10.200.0.2")
	w.service("grpc", "kubernetes.io/h2c", "10.200.0.3")
	w.service("empty", "")
	create(w, client.IngressClasses, &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "hardway"}, Spec: networkingv1.IngressClassSpec{Controller: route.Controller}})
	create(w, client.Secrets, &corev1.Secret{ObjectMeta: named("foo"), Type: corev1.SecretTypeTLS, Data: keyPair(t, 1, "foo.com")})
	create(w, client.Secrets, &corev1.Secret{ObjectMeta: named("wild"), Type: corev1.SecretTypeTLS, Data: keyPair(t, 2, "*.example.com")})
	class, prefix := "hardway", networkingv1.PathTypePrefix
	path := func(path, service, port string, number int32) networkingv1.HTTPIngressPath {
		return networkingv1.HTTPIngressPath{Path: path, PathType: &prefix, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Name: port, Number: number}}}}
	}
	rule := func(host string, paths ...networkingv1.HTTPIngressPath) networkingv1.IngressRule {
		return networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}}}
	}
	in := &networkingv1.Ingress{ObjectMeta: named("shop"), Spec: networkingv1.IngressSpec{IngressClassName: &class,
		TLS: []networkingv1.IngressTLS{{Hosts: []string{"foo.com"}, SecretName: "foo"}, {Hosts: []string{"lost.com"}, SecretName: "lost"}},
		Rules: []networkingv1.IngressRule{
			rule("plain.com", path("/", "web", "web", 0), path("/api", "api", "", 80), path("/empty", "empty", "", 80), path("/none", "missing", "", 80), path("/grpc", "grpc", "", 80)),
			rule("foo.com", path("/", "api", "", 80))}}}
	create(w, client.Ingresses, in)
	node := create(w, client.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	node.Status = corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	if _, err := client.Nodes.Update(t.Context(), w.api, node, "status"); err != nil {
		t.Fatal(err)
	}
	if w.port("http") != "" {
		t.Error("served without the label")
	}
	label := func(patch string) {
		t.Helper()
		if _, err := client.Nodes.Patch(t.Context(), w.api, "", "n1", types.MergePatchType, []byte(`{"metadata":{"labels":{"hardway/ingress":`+patch+`}}}`)); err != nil {
			t.Fatal(err)
		}
	}
	label(`""`)
	w.eventually("first answer", func() error {
		_, _, err := w.ask("GET", "http://plain.com/", "")
		return err
	})

	for range 20 { // half of them meet the endpoint that is not there
		w.want("POST", "http://plain.com/x?y=z", "body", 200, "one HTTP/1.1 plain.com /x?y=z from 127.0.0.1 by http body", "X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "gopher")
	}
	w.want("GET", "http://plain.com/api/v1", "", 200, "two HTTP/1.1 plain.com /api/v1 from")
	w.want("GET", "http://plain.com/grpc", "", 200, "h2c HTTP/2.0 plain.com /grpc")
	w.want("GET", "http://plain.com/empty", "", 503, "no endpoint of the Service is ready")
	w.want("GET", "http://plain.com/none", "", 503, "no endpoint of the Service is ready")
	w.want("GET", "http://other.com/", "", 404, "no Ingress has a rule")
	w.want("GET", "http://foo.com/x?y=z", "", 308, "")
	w.want("GET", "https://foo.com/x", "", 200, "two HTTP/1.1 foo.com /x from 127.0.0.1 by https")
	if response, _, err := w.ask("GET", "http://foo.com/x?y=z", ""); err != nil || response.Header.Get("Location") != "https://foo.com/x?y=z" {
		t.Errorf("redirected to %q, %v", response.Header.Get("Location"), err)
	}
	if response, _, err := w.ask("GET", "https://foo.com/", ""); err != nil || response.ProtoMajor != 2 {
		t.Errorf("over TLS %v, %v, want HTTP/2", response, err)
	}
	w.upgrade()
	w.certificates(in)
	w.eventually("status", func() error {
		got, err := client.Ingresses.Get(t.Context(), w.api, "default", "shop")
		if err == nil && (len(got.Status.LoadBalancer.Ingress) != 1 || got.Status.LoadBalancer.Ingress[0].IP != "192.0.2.7") {
			err = fmt.Errorf("status %+v", got.Status)
		}
		return err
	})
	label("null")
	w.eventually("end", func() error {
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.port("http")); err == nil {
			return errors.Join(errors.New("still served without the label"), conn.Close())
		}
		return nil
	})
}

// upgrade talks over a connection that is no longer HTTP.
func (w *world) upgrade() {
	w.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(w.t.Context(), "tcp", w.port("http"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it ends here
	fmt.Fprint(conn, "GET /api HTTP/1.1\r\nHost: plain.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		w.t.Fatalf("upgrade: %v, %v", response, err)
	}
	defer response.Body.Close() //nolint:errcheck // it is empty
	fmt.Fprint(conn, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
		w.t.Errorf("through the upgraded connection %q, %v", line, err)
	}
}

// certificates looks at who shows which, and at a change of one.
func (w *world) certificates(in *networkingv1.Ingress) {
	w.t.Helper()
	for host, want := range map[string]int64{"foo.com": 1, "other.com": 2, "lost.com": 2} {
		if got, err := w.serial(host); err != nil || got != want {
			w.t.Errorf("%s shows certificate %d, %v, want %d", host, got, err, want)
		}
	}
	secret, err := client.Secrets.Get(w.t.Context(), w.api, "default", "foo")
	if err != nil {
		w.t.Fatal(err)
	}
	secret.Data = keyPair(w.t, 7, "foo.com")
	if _, err := client.Secrets.Update(w.t.Context(), w.api, secret); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the new certificate", func() error {
		got, err := w.serial("foo.com")
		if err == nil && got != 7 {
			err = fmt.Errorf("certificate %d", got)
		}
		return err
	})
	w.eventually("event", func() error {
		events, err := client.Events.List(w.t.Context(), w.api, "default", metav1.ListOptions{FieldSelector: "involvedObject.name=" + in.Name})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "NotServed" && strings.Contains(e.Message, "default/lost") {
				return nil
			}
		}
		return fmt.Errorf("events %v", events.Items)
	})
}
