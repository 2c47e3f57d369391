package proxy

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func TestLogOptionsAreTranslated(t *testing.T) {
	for name, tc := range map[string]struct{ in, out, err string }{
		"none":           {"", "", ""},
		"all":            {"follow=true&previous=1&timestamps&tailLines=5&sinceSeconds=3&limitBytes=7&stream=All", "follow=true&limitBytes=7&previous=true&sinceSeconds=3&stream=All&tailLines=5&timestamps=true", ""},
		"off":            {"follow=false&previous=0", "", ""},
		"time":           {"sinceTime=2026-01-02T03:04:05Z", "sinceTime=2026-01-02T03%3A04%3A05Z", ""},
		"tail zero":      {"tailLines=0", "tailLines=0", ""},
		"negative tail":  {"tailLines=-1", "", "tailLines: Invalid value: -1: must be greater than or equal to 0"},
		"no limit":       {"limitBytes=0", "", "limitBytes: Invalid value: 0: must be greater than 0"},
		"no number":      {"tailLines=many", "", "unable to decode query: tailLines"},
		"both sinces":    {"sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", "", "at most one of `sinceTime` or `sinceSeconds` may be specified"},
		"unknown stream": {"stream=Both", "", `stream: Unsupported value: "Both"`},
	} {
		t.Run(name, func(t *testing.T) {
			query, err := url.ParseQuery(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := logQuery(query, "web")
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || got.Encode() != tc.out {
				t.Errorf("%q, error %v", got.Encode(), err)
			}
		})
	}
}

func TestLog(t *testing.T) {
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/containerLogs/ns/web/main":
			_, _ = io.WriteString(w, "container is alive\n"+r.URL.RawQuery)
		case "/containerLogs/ns/two/a":
			http.Error(w, `container "a" in pod "two" is waiting to start`, http.StatusBadRequest)
		default:
			http.NotFound(w, r)
		}
	}))
	for name, tc := range map[string]struct {
		path string
		code int
		body string
	}{
		"one container":    {"pods/web/log?tailLines=2", 200, "container is alive\ntailLines=2"},
		"the node refuses": {"pods/two/log?container=a", 400, "container \"a\" in pod \"two\" is waiting to start\n\n"},
		"no node yet":      {"pods/waiting/log", 204, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := c.http(t).Get(c.path(tc.path))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.code || string(body) != tc.body {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			if tc.code == 200 && resp.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("content type %q", resp.Header.Get("Content-Type"))
			}
		})
	}
}

func TestFollowedLogIsFlushedLineByLine(t *testing.T) {
	next := make(chan string)
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for line := range next {
			_, _ = io.WriteString(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	go func() { next <- "one\n" }()
	resp, err := c.http(t).Get(c.path("pods/web/log?follow=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line := make([]byte, 4)
	for _, want := range []string{"one\n", "two\n"} {
		if want == "two\n" {
			next <- want
		}
		if _, err := io.ReadFull(resp.Body, line); err != nil || string(line) != want {
			t.Fatalf("%q, error %v", line, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Fatalf("%q, error %v", rest, err)
	}
}

func TestLogOverWebSocket(t *testing.T) {
	c := newCluster(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "container is alive\n") }))
	dial := func(protocols ...string) (*websocket.Conn, error) {
		d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Subprotocols: protocols}
		ws, _, err := d.DialContext(t.Context(), strings.Replace(c.path("pods/web/log"), "https", "wss", 1), nil) //nolint:bodyclose // a WebSocket has none
		return ws, err
	}
	for protocol, decode := range map[string]func([]byte) []byte{
		"":             func(b []byte) []byte { return b },
		binaryProtocol: func(b []byte) []byte { return b },
		base64Protocol: func(b []byte) []byte {
			out, err := base64.StdEncoding.DecodeString(string(b))
			if err != nil {
				t.Fatal(err)
			}
			return out
		},
	} {
		t.Run(protocol, func(t *testing.T) {
			var offers []string
			if protocol != "" {
				offers = []string{"unknown.k8s.io", protocol}
			}
			ws, err := dial(offers...)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			var all []byte
			for {
				_, message, err := ws.ReadMessage()
				var closed *websocket.CloseError
				if errors.As(err, &closed) && closed.Code == websocket.CloseNormalClosure {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, decode(message)...)
			}
			if string(all) != "container is alive\n" || ws.Subprotocol() != protocol {
				t.Errorf("%q by %q", all, ws.Subprotocol())
			}
		})
	}
	if _, err := dial("only.unknown.k8s.io"); err == nil {
		t.Error("an unknown protocol was accepted")
	}
}

func TestUnprovenNodesMustBeRoutable(t *testing.T) {
	c := newCluster(t, http.NotFoundHandler())
	resp, err := c.http(t).Get(c.path("pods/web/log?insecureSkipTLSVerifyBackend=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 500 || !strings.Contains(string(body), "address not allowed") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestRoutable(t *testing.T) {
	for address, ok := range map[string]bool{
		"10.200.0.5": true, "192.168.1.1": true, "2001:db8::1": true,
		"127.0.0.1": false, "::1": false, "169.254.169.254": false, "fe80::1": false, "0.0.0.0": false, "224.0.0.1": false, "::ffff:127.0.0.1": false,
	} {
		if got := routable(netip.MustParseAddr(address)) == nil; got != ok {
			t.Errorf("%s: %v", address, got)
		}
	}
}
