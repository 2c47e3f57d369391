package proxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/request"
)

// backendServer serves what pods do, and the cluster knows its address as that of pod web.
func backendServer(t *testing.T, c *cluster, h http.Handler) (port int32) {
	t.Helper()
	c.proxy.others.allowed = anywhere // the test's own machine
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	host, text, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	web := c.pods["web"]
	web.Status.PodIP, web.Status.PodIPs = host, []corev1.PodIP{{IP: host}}
	web.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: int32(n)}}
	return int32(n)
}

func TestProxyToPodsServicesAndNodes(t *testing.T) {
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "agent "+r.URL.Path) }))
	port := backendServer(t, c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "http://elsewhere.example/x", http.StatusFound)
		case "/home":
			http.Redirect(w, r, "/landed?a=b", http.StatusFound)
		default:
			w.Header().Set("Access-Control-Allow-Origin", "*")
			_, _ = io.WriteString(w, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Forwarded-Uri")+" "+r.Header.Get("Authorization"))
		}
	}))
	name, yes, no := "http", true, false
	c.services = map[string]*corev1.Service{"svc": {ObjectMeta: metav1.ObjectMeta{Name: "svc"}, Spec: corev1.ServiceSpec{
		Ports: []corev1.ServicePort{{Name: name, Port: 80}},
	}}}
	ref := func(pod string) *corev1.ObjectReference {
		return &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: pod}
	}
	address := c.pods["web"].Status.PodIP
	c.slices = []*discoveryv1.EndpointSlice{{
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.9.9.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}, TargetRef: ref("two")},
			{Addresses: []string{"10.9.9.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{Addresses: []string{"10.9.9.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}, TargetRef: ref("web")},
			{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}, TargetRef: ref("web")},
		},
	}}
	const ns = "/api/v1/namespaces/ns/"
	for title, tc := range map[string]struct {
		path     string
		code     int
		body     string
		location string
	}{
		"pod":                    {path: ns + "pods/web/proxy/a/b?q=1", code: 200, body: "GET /a/b?q=1 " + ns + "pods/web/proxy/a/b "},
		"pod, port":              {path: ns + "pods/web:" + strconv.Itoa(int(port)) + "/proxy/", code: 200, body: "GET / "},
		"pod, scheme":            {path: ns + "pods/http:web:" + strconv.Itoa(int(port)) + "/proxy/x/", code: 200, body: "GET /x/ "},
		"bad scheme":             {path: ns + "pods/ftp:web:1/proxy/", code: 400, body: "invalid pod request"},
		"no path":                {path: ns + "pods/web/proxy", code: 301, location: ns + "pods/web/proxy/"},
		"redirect to itself":     {path: ns + "pods/web/proxy/home", code: 302, location: ns + "pods/web/proxy/landed?a=b"},
		"redirect elsewhere":     {path: ns + "pods/web/proxy/away", code: 302, location: "http://elsewhere.example/x"},
		"service by name":        {path: ns + "services/svc:http/proxy/s", code: 200, body: "GET /s "},
		"service by number":      {path: ns + "services/svc:80/proxy/s", code: 200, body: "GET /s "},
		"service, no such port":  {path: ns + "services/svc:81/proxy/s", code: 503, body: `no service port 81 found for service "svc"`},
		"service, no endpoint":   {path: ns + "services/svc:other/proxy/s", code: 503, body: `no endpoints available for service "svc:other"`},
		"no service":             {path: ns + "services/none/proxy/s", code: 404, body: "not found"},
		"pod without an address": {path: ns + "pods/two/proxy/", code: 400, body: "address not allowed"},
		"node agent":             {path: "/api/v1/nodes/n1/proxy/healthz", code: 200, body: "agent /healthz"},
		"node agent by port":     {path: "/api/v1/nodes/n1:" + strconv.Itoa(c.port) + "/proxy/pods", code: 200, body: "agent /pods"},
		"other port of a node":   {path: "/api/v1/nodes/n1:" + strconv.Itoa(int(port)) + "/proxy/x", code: 200, body: "GET /x "},
		"closed port":            {path: "/api/v1/nodes/n1:1/proxy/x", code: 503, body: "error trying to reach service"},
	} {
		t.Run(title, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer secret")
			resp, err := c.http(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.code || !strings.Contains(string(body), tc.body) || resp.Header.Get("Location") != tc.location {
				t.Errorf("%d %q to %q", resp.StatusCode, body, resp.Header.Get("Location"))
			}
			if strings.Contains(string(body), "secret") || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("passed on what it should not: %q %v", body, resp.Header)
			}
		})
	}
}

func TestProxyUpgradesToPods(t *testing.T) {
	c := newCluster(t, http.NotFoundHandler())
	backendServer(t, c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		kind, message, err := ws.ReadMessage()
		if err == nil {
			_ = ws.WriteMessage(kind, append([]byte(r.URL.Path+" "), message...))
		}
	}))
	d := websocket.Dialer{TLSClientConfig: c.http(t).Transport.(*http.Transport).TLSClientConfig}
	ws, _, err := d.DialContext(t.Context(), strings.Replace(c.path("pods/web/proxy/ws"), "https", "wss", 1), nil) //nolint:bodyclose // a WebSocket has none
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := ws.ReadMessage(); err != nil || string(message) != "/ws hello" {
		t.Fatalf("%q, error %v", message, err)
	}
}

func TestProxyRefusesThisMachine(t *testing.T) {
	c := newCluster(t, http.NotFoundHandler())
	backendServer(t, c, http.NotFoundHandler())
	c.proxy.others.allowed = routable
	for _, path := range []string{c.path("pods/web/proxy/"), c.url + "/api/v1/nodes/n1:2379/proxy/"} {
		resp, err := c.http(t).Get(path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "address not allowed") {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
}

func TestSubPath(t *testing.T) {
	for path, want := range map[string][2]string{
		"/api/v1/namespaces/ns/pods/web/proxy":      {"", "/api/v1/namespaces/ns/pods/web/proxy"},
		"/api/v1/namespaces/ns/pods/web/proxy/":     {"/", "/api/v1/namespaces/ns/pods/web/proxy"},
		"/api/v1/namespaces/ns/pods/web/proxy/a/b/": {"/a/b/", "/api/v1/namespaces/ns/pods/web/proxy"},
		"/api/v1/nodes/n1/proxy/metrics":            {"/metrics", "/api/v1/nodes/n1/proxy"},
	} {
		info, err := request.Parse(httptest.NewRequest(http.MethodGet, path, nil))
		if err != nil {
			t.Fatal(err)
		}
		if rest, prefix := subPath(info); rest != want[0] || prefix != want[1] {
			t.Errorf("%s: %q %q", path, rest, prefix)
		}
	}
}
