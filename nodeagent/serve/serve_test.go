package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hardway/nodeagent/podworker"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/serve/auth"
	"hardway/shared/daemon"
)

// echo is a runtime whose commands do what their name says, and whose pods echo on every port.
type echo struct{}

func (echo) Exec(ctx context.Context, _ types.UID, _ string, cmd []string, s runtime.Streams) (int, error) {
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	case "fail":
		fmt.Fprint(s.Stderr, "oh no")
		return 42, nil
	case "size":
		size := <-s.Resize
		fmt.Fprintf(s.Stdout, "%dx%d", size.Width, size.Height)
		return 0, nil
	default:
		return 127, errors.New("no such program")
	}
}

func (e echo) Attach(ctx context.Context, uid types.UID, id string, s runtime.Streams) error {
	_, err := e.Exec(ctx, uid, id, []string{"cat"}, s)
	return err
}

func (echo) Dial(context.Context, types.UID, uint16) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		buf := make([]byte, 1024)
		n, err := there.Read(buf)
		if err == nil {
			there.Write(bytes.ToUpper(buf[:n])) //nolint:errcheck // the test sees what arrives
		}
	}()
	return here, nil
}

func (echo) Stats(context.Context, types.UID) (runtime.PodStats, error) {
	return runtime.PodStats{Containers: map[string]runtime.Usage{"c0": {CPU: 3 * time.Second, WorkingSet: 1000}}}, nil
}

// one is a node with one pod.
type one struct{ pod podworker.Pod }

func (o one) ByName(namespace, name string) (podworker.Pod, bool) {
	return o.pod, o.pod.Namespace == namespace && o.pod.Name == name
}

func (o one) Pods() []podworker.Pod { return []podworker.Pod{o.pod} }

func fixture(t *testing.T) (*httptest.Server, one, string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}, {Name: "new"}}}}
	o := one{podworker.Pod{Pod: pod, Observed: &runtime.PodStatus{Alive: true, Containers: []runtime.Status{{ID: "c0", Name: "c", Attempt: 1, State: runtime.Running}}}}}
	o.pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "c", RestartCount: 1, ContainerID: "hardway://c0", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "hardway://b"}}},
		{Name: "new", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}},
	}
	logs := t.TempDir()
	for attempt, text := range []string{"previous", "current"} {
		path := compose.LogPath(logs, "ns", "p", "u", "c", attempt)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		record := "2030-01-01T00:00:00.000000000Z stdout F " + text + "\n2030-01-01T00:00:00.000000000Z stderr F err\n"
		if err := os.WriteFile(path, []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	handler := Handler(Options{Node: "n1", Auth: auth.Options{Callers: []string{"kube-apiserver-kubelet-client", "kubernetes"}}, Pods: o, Runtime: echo{}, LogDir: logs, Volumes: func(context.Context, *corev1.Pod) []stats.VolumeStats { return nil }, IdleTimeout: time.Minute, Config: map[string]any{"port": 10250},
		Health: daemon.NewHealth(), Registry: prometheus.NewRegistry(), Log: zap.NewNop()})
	// The handler sees a verified certificate, as behind the real listener.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get("X-Test-User"); user != "-" {
			if user == "" {
				user = "kube-apiserver-kubelet-client"
			}
			name := pkix.Name{CommonName: user}
			if user == "admin" {
				name.Organization = []string{"system:masters"}
			}
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: name}}}}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv, o, logs
}

func get(t *testing.T, srv *httptest.Server, path, user string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Test-User", user)
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func TestWhoMayAsk(t *testing.T) {
	srv, _, _ := fixture(t)
	for _, path := range []string{"/pods", "/metrics", "/metrics/cadvisor", "/metrics/resource", "/configz", "/stats/summary", "/debug/pprof/cmdline",
		"/containerLogs/ns/p/c", "/exec/ns/p/c?command=cat", "/attach/ns/p/c", "/portForward/ns/p", "/readyz", "/no/such/path"} {
		for user, want := range map[string]int{"-": http.StatusUnauthorized, "system:node:n2": http.StatusForbidden} {
			if code, _ := get(t, srv, path, user); code != want {
				t.Errorf("%s by %q: %d, want %d", path, user, code, want)
			}
		}
	}
	if code, body := get(t, srv, "/healthz", "-"); code != http.StatusOK || body != "ok" {
		t.Errorf("/healthz for anybody: %d %s", code, body)
	}
	for _, user := range []string{"admin", "kubernetes", "kube-apiserver-kubelet-client"} {
		if code, body := get(t, srv, "/pods", user); code != http.StatusOK {
			t.Errorf("/pods by %s: %d %s", user, code, body)
		}
	}
}

func TestContainerLogs(t *testing.T) {
	srv, _, _ := fixture(t)
	for path, want := range map[string]string{
		"ns/p/c":                                "200 current\nerr",
		"ns/p/u/c":                              "200 current\nerr",
		"ns/p/c?previous=true":                  "200 previous\nerr",
		"ns/p/c?tailLines=1":                    "200 err",
		"ns/p/c?stream=Stdout":                  "200 current",
		"ns/p/c?stream=Nonsense":                `400 invalid stream type "Nonsense"`,
		"ns/p/c?limitBytes=3":                   "200 cur",
		"ns/p/c?timestamps=true&tailLines=1":    "200 2030-01-01T00:00:00.000000000Z err",
		"ns/p/c?sinceTime=2031-01-01T00:00:00Z": "200 ",
		"ns/p/c?tailLines=x":                    `422 invalid value "x" for tailLines: must be a number of at least 0`,
		"ns/p/c?sinceSeconds=1&sinceTime=2031-01-01T00:00:00Z": "422 at most one of sinceTime or sinceSeconds may be specified",
		"ns/p/new":               `400 container "new" in pod "p" is waiting to start: image can't be pulled`,
		"ns/p/new?previous=true": `400 previous terminated container "new" in pod "p" not found`,
		"ns/p/zz":                `404 container "zz" not found in pod "p"`,
		"ns/q/c":                 "404 pod does not exist",
		"ns/p/other-uid/c":       "404 pod does not exist",
	} {
		code, body := get(t, srv, "/containerLogs/"+path, "")
		if got := fmt.Sprintf("%d %s", code, body); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestStateIsShown(t *testing.T) {
	srv, _, _ := fixture(t)
	var list corev1.PodList
	if _, body := get(t, srv, "/pods", ""); json.Unmarshal([]byte(body), &list) != nil || len(list.Items) != 1 || len(list.Items[0].Status.ContainerStatuses) != 2 {
		t.Errorf("/pods: %s", body)
	}
	for path, part := range map[string]string{
		"/metrics": "kubelet_running_pods 1", "/metrics/resource": `container_memory_working_set_bytes{container="c",namespace="ns",pod="p"} 1000`,
		"/metrics/cadvisor": `container_cpu_usage_seconds_total{container="c",namespace="ns",pod="p"} 3`, "/configz": `"port":10250`, "/stats/summary": `"usageCoreNanoSeconds":3000000000`,
	} {
		if code, body := get(t, srv, path, ""); code != http.StatusOK || !strings.Contains(body, part) {
			t.Errorf("%s: %d without %s:\n%s", path, code, part, body)
		}
	}
}

// protocols are the ways in which clients run commands: both through upstream's own client.
func protocols(t *testing.T, target string) map[string]remotecommand.Executor {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: u.Host}
	s, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	v5, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, target)
	if err != nil {
		t.Fatal(err)
	}
	v4, err := remotecommand.NewWebSocketExecutorForProtocols(cfg, http.MethodGet, target, "v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": s, "WebSocket v5": v5, "WebSocket v4": v4}
}

func TestExec(t *testing.T) {
	srv, _, _ := fixture(t)
	for name, e := range protocols(t, srv.URL+"/exec/ns/p/c?command=fail&output=1&error=1") {
		var out, errOut bytes.Buffer
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
		var exit utilexec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 42 || errOut.String() != "oh no" {
			t.Errorf("%s: exit code: %v, stderr %q", name, err, errOut.String())
		}
	}
	for name, e := range protocols(t, srv.URL+"/exec/ns/p/c?command=missing&output=1") {
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "no such program") {
			t.Errorf("%s: a command that is not there: %v", name, err)
		}
	}
	for _, verb := range []string{"exec", "attach"} {
		for name, e := range protocols(t, srv.URL+"/"+verb+"/ns/p/c?command=cat&input=1&output=1") {
			if name == "WebSocket v4" {
				continue // has no way to end standard input
			}
			var out bytes.Buffer
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("through"), Stdout: &out})
			if err != nil || out.String() != "through" {
				t.Errorf("%s by %s: %q, %v", verb, name, out.String(), err)
			}
		}
	}
}

type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestResize(t *testing.T) {
	srv, _, _ := fixture(t)
	for name, e := range protocols(t, srv.URL+"/exec/ns/p/c?command=size&output=1&tty=1") {
		q := make(sizes, 1)
		q <- remotecommand.TerminalSize{Width: 80, Height: 24}
		var out bytes.Buffer
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: q})
		close(q)
		if err != nil || out.String() != "80x24" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}

func TestExecRefuses(t *testing.T) {
	srv, _, _ := fixture(t)
	for path, want := range map[string]string{
		"/exec/ns/p/c?output=1":             "400 you must specify a command",
		"/exec/ns/p/c?command=x":            "400 you must specify at least 1 of stdin, stdout, stderr",
		"/exec/ns/p/new?command=x&output=1": "404 container not running (new)",
		"/exec/ns/p/zz?command=x&output=1":  `404 container not found ("zz")`,
		"/exec/ns/q/c?command=x&output=1":   "404 pod does not exist",
	} {
		code, body := get(t, srv, path, "")
		if got := fmt.Sprintf("%d %s", code, body); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestPortForward(t *testing.T) {
	srv, _, _ := fixture(t)
	u, err := url.Parse(srv.URL + "/portForward/ns/p")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: u.Host}
	rt, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, cfg)
	if err != nil {
		t.Fatal(err)
	}
	spdyDialer := spdy.NewDialer(upgrader, &http.Client{Transport: rt}, http.MethodPost, u)
	for _, name := range []string{"SPDY", "SPDY in a WebSocket"} {
		stop, ready := make(chan struct{}), make(chan struct{})
		var pf *portforward.PortForwarder
		if name == "SPDY" {
			pf, err = portforward.NewOnAddresses(spdyDialer, []string{"127.0.0.1"}, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
		} else {
			pf, err = portforward.NewOnAddresses(tunnel, []string{"127.0.0.1"}, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
		}
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- pf.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-ended:
			t.Fatalf("%s: %v", name, err)
		}
		ports, err := pf.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "hello")
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != "HELLO" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		conn.Close() //nolint:errcheck // the next step shows
		close(stop)
		<-ended //nolint:errcheck // how it ended does not matter here
	}
}
