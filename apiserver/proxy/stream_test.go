package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

var success, _ = json.Marshal(metav1.Status{Status: metav1.StatusSuccess})

// echoSPDY is a node agent's exec over SPDY: it answers with what it reads.
func echoSPDY(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 4)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	byType := map[string]httpstream.Stream{}
	for range 3 {
		s := <-streams
		byType[s.Headers().Get(corev1.StreamType)] = s
	}
	data, _ := io.ReadAll(byType[corev1.StreamTypeStdin])
	_, _ = byType[corev1.StreamTypeStdout].Write(bytes.ToUpper(data))
	_, _ = byType[corev1.StreamTypeError].Write(success)
	for _, s := range byType {
		s.Close()
	}
	<-conn.CloseChan()
}

// echoWebSocket is the same over version 5 of the WebSocket protocol.
func echoWebSocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	var data []byte
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			return
		}
		if message[0] == 255 { // a stream is closed
			break
		}
		data = append(data, message[1:]...)
	}
	_ = ws.WriteMessage(websocket.BinaryMessage, append([]byte{1}, bytes.ToUpper(data)...))
	_ = ws.WriteMessage(websocket.BinaryMessage, append([]byte{3}, success...))
	_ = ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
}

func TestExecPassesBothTransportsThrough(t *testing.T) {
	var seen []*http.Request
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r)
		if websocket.IsWebSocketUpgrade(r) {
			echoWebSocket(w, r)
			return
		}
		echoSPDY(w, r)
	}))
	target, err := url.Parse(c.path("pods/web/exec?stdin=true&stdout=true&command=tr&command=a-z&container=main"))
	if err != nil {
		t.Fatal(err)
	}
	executors := map[string]func() (remotecommand.Executor, error){
		"SPDY": func() (remotecommand.Executor, error) { return remotecommand.NewSPDYExecutor(c.client, "POST", target) },
		"WebSocket": func() (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(c.client, "GET", target.String())
		},
	}
	for name, make := range executors {
		t.Run(name, func(t *testing.T) {
			seen = nil
			executor, err := make()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out})
			if err != nil || out.String() != "HELLO" {
				t.Fatalf("exec printed %q, error %v", out.String(), err)
			}
			r := seen[0]
			want := url.Values{"command": {"tr", "a-z"}, "input": {"1"}, "output": {"1"}}
			if r.URL.Path != "/exec/ns/web/main" || r.URL.Query().Encode() != want.Encode() {
				t.Errorf("the node was asked for %s", r.URL)
			}
			if r.Header.Get("Authorization") != "" {
				t.Error("the client's token reached the node")
			}
			if r.Header.Get("X-Forwarded-For") == "" {
				t.Error("no X-Forwarded-For")
			}
		})
	}
}

func TestPortForwardReachesTheNodeAsSPDY(t *testing.T) {
	var protocols []string
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols = append(protocols, r.Header.Get("Upgrade"))
		if r.URL.Path != "/portForward/ns/web" {
			http.Error(w, r.URL.Path, http.StatusNotFound)
			return
		}
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			return
		}
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
			go func() {
				defer s.Close()
				if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeData {
					_, _ = io.Copy(s, s)
				}
			}()
			return nil
		})
		if conn != nil {
			<-conn.CloseChan()
		}
	}))
	target, err := url.Parse(c.path("pods/web/portforward"))
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(target, c.client)
	if err != nil {
		t.Fatal(err)
	}
	conn, protocol, err := tunnel.Dial("portforward.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if protocol != "portforward.k8s.io" || !slices.Equal(protocols, []string{"SPDY/3.1"}) {
		t.Fatalf("protocol %q to the client, %v to the node", protocol, protocols)
	}
	header := http.Header{}
	header.Set(corev1.StreamType, corev1.StreamTypeError)
	header.Set(corev1.PortHeader, "80")
	header.Set(corev1.PortForwardRequestIDHeader, "0")
	if _, err := conn.CreateStream(header); err != nil {
		t.Fatal(err)
	}
	header.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(header)
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	go func() {
		_, _ = data.Write(sent)
		data.Close()
	}()
	got, err := io.ReadAll(data)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d came back, error %v", len(got), len(sent), err)
	}
}

func TestTunnelIsRefusedBeforeTheUpgrade(t *testing.T) {
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no pods here", http.StatusForbidden) }))
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: []string{"SPDY/3.1+portforward.k8s.io"}}
	_, resp, err := d.DialContext(t.Context(), strings.Replace(c.path("pods/web/portforward"), "https", "wss", 1), nil) //nolint:bodyclose // a WebSocket has none
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("response %v, error %v", resp, err)
	}
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), "no pods here") {
		t.Errorf("body %q", body)
	}
}

func TestBackendMustSwitchProtocols(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		code   int
		says   string
	}{
		"a refusal is passed on": {func(w http.ResponseWriter) { http.Error(w, "no such container", http.StatusNotFound) }, 404, "no such container"},
		"a redirect is not followed": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere/")
			w.WriteHeader(http.StatusFound)
		}, 500, "invalid upgrade response: status code 302"},
		"success without a switch is a fault": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hi") }, 500, "invalid upgrade response: status code 200"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tc.answer(w) }))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.path("pods/web/exec?command=x&stdout=1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "SPDY/3.1")
			resp, err := c.http(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.code || !strings.Contains(string(body), tc.says) {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
		})
	}
}

func TestStreamRequestsThatMakeNoSense(t *testing.T) {
	c := newCluster(t, http.NotFoundHandler())
	for name, tc := range map[string]struct {
		path string
		code int
		says string
	}{
		"no pod":                {"pods/none/exec?command=x", 404, `pods "none" not found`},
		"no upgrade":            {"pods/web/exec?command=x", 400, "Upgrade request required"},
		"which container":       {"pods/two/exec?command=x", 400, "a container name must be specified for pod two, choose one of: [a b]"},
		"unknown container":     {"pods/two/attach?container=c", 400, "container c is not valid for pod two"},
		"not scheduled":         {"pods/waiting/exec?command=x", 400, "pod waiting does not have a host assigned"},
		"not scheduled forward": {"pods/waiting/portforward", 400, "pod waiting does not have a host assigned"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := c.http(t).Get(c.path(tc.path))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.code || !strings.Contains(string(body), tc.says) {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
		})
	}
}

func TestNodeMustBeKnownToTheCA(t *testing.T) {
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "log") }))
	other := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "log") }))
	c.nodes["n1"] = other.nodes["n1"]
	resp, err := c.http(t).Get(c.path("pods/web/log"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 500 || !strings.Contains(string(body), "certificate signed by unknown authority") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}
