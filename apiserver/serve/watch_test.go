package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"hardway/apiserver/cache"
	"hardway/apiserver/kinds/core"
)

// TestClientGo drives the handlers with the client that everybody uses, in both encodings.
func TestClientGo(t *testing.T) {
	e := newEnv(t)
	for _, media := range []string{mediaJSON, mediaProtobuf} {
		t.Run(media, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c := e.client(media)
			ns, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "n-"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			pods := c.CoreV1().Pods(ns.Name)
			w, err := pods.Watch(ctx, metav1.ListOptions{AllowWatchBookmarks: true, SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			if ev := next1(t, w); ev.Type != watch.Bookmark || ev.Object.(*corev1.Pod).Annotations[metav1.InitialEventsAnnotationKey] != "true" {
				t.Fatalf("first event %v, want the bookmark after no initial events", ev)
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
			if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if ev := next1(t, w); ev.Type != watch.Added || ev.Object.(*corev1.Pod).Spec.DNSPolicy != corev1.DNSClusterFirst {
				t.Errorf("event %v, want the pod with its defaults", ev)
			}
			if err := pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if ev := next1(t, w); ev.Type != watch.Modified || ev.Object.(*corev1.Pod).Spec.NodeName != "n1" {
				t.Errorf("event %v, want the bound pod", ev)
			}
			err = pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n2"}}, metav1.CreateOptions{})
			if !apierrors.IsConflict(err) {
				t.Errorf("second binding: %v, want a conflict", err)
			}
			patch := `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
			if _, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
				t.Fatal(err)
			}
			got := next1(t, w).Object.(*corev1.Pod)
			if got.Status.Phase != corev1.PodRunning || len(got.Status.Conditions) < 2 {
				t.Errorf("status %+v, want Running with the conditions merged", got.Status)
			}
			list, err := pods.List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
			if err != nil || len(list.Items) != 1 || list.Items[0].Kind != "" || list.Items[0].Name != "p" {
				t.Errorf("list %v, %v", list, err)
			}
			if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
				t.Fatal(err)
			}
			if ev := next1(t, w); ev.Type != watch.Deleted {
				t.Errorf("event %v, want the deletion", ev)
			}
		})
	}
}

func next1(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case ev, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return ev
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	return watch.Event{}
}

// lines opens a watch and returns a function that reads one event after another.
func (e *env) lines(path string, headers ...string) (*http.Response, func() string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 20*time.Second)
	e.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", e.url+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { res.Body.Close() })
	read := bufio.NewReader(res.Body)
	return res, func() string {
		line, err := read.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		return line
	}
}

func TestWatchForms(t *testing.T) {
	e := newEnv(t)
	e.must("POST", configMaps, `{"metadata":{"name":"a"},"data":{"k":"v"}}`)

	t.Run("the old URL", func(t *testing.T) {
		_, next := e.lines("/api/v1/watch/namespaces/dev/configmaps/a") //nolint:bodyclose // a WebSocket has none
		if line := next(); !strings.HasPrefix(line, `{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"`) {
			t.Errorf("got %s", line)
		}
	})
	t.Run("table: columns only once", func(t *testing.T) {
		_, next := e.lines(configMaps+"?watch=1", "Accept: application/json;as=Table;g=meta.k8s.io;v=v1") //nolint:bodyclose // a WebSocket has none
		if line := next(); !strings.Contains(line, `"columnDefinitions":[{"name":"Name"`) || !strings.Contains(line, `"rows":[{"cells":["a",1,`) {
			t.Errorf("got %s", line)
		}
		e.must("PATCH", configMaps+"/a", `{"data":{"l":"w"}}`)
		if line := next(); !strings.Contains(line, `"columnDefinitions":null`) || !strings.Contains(line, `"cells":["a",2,`) {
			t.Errorf("got %s", line)
		}
	})
	t.Run("metadata", func(t *testing.T) {
		_, next := e.lines(configMaps+"?watch=1", "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
		if line := next(); !strings.Contains(line, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a"`) || strings.Contains(line, `"data"`) {
			t.Errorf("got %s", line)
		}
	})
	t.Run("the time is up", func(t *testing.T) {
		_, next := e.lines("/api/v1/namespaces/dev/secrets?watch=1&timeoutSeconds=1")
		if line := next(); line != "EOF" {
			t.Errorf("got %s, want the end", line)
		}
	})
	t.Run("YAML is refused", func(t *testing.T) {
		if a := e.do("GET", configMaps+"?watch=1", "", "Accept: application/yaml"); a.code != http.StatusNotAcceptable {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		conn, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(e.url, "http")+configMaps+"?watch=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		defer conn.Close()
		_, text, err := conn.ReadMessage()
		if err != nil || !strings.HasPrefix(string(text), `{"type":"ADDED","object":{"kind":"ConfigMap"`) || strings.HasSuffix(string(text), "\n") {
			t.Errorf("got %s, %v", text, err)
		}
	})
	t.Run("WebSocket of another origin", func(t *testing.T) {
		_, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(e.url, "http")+configMaps+"?watch=1",
			http.Header{"Origin": {"https://evil.example"}})
		if err == nil || res.StatusCode != http.StatusForbidden {
			t.Errorf("got %v", err)
		}
	})
}

// TestWatchEndsWithItsError feeds a stream by hand: what was there comes first, then the reason for the end.
func TestWatchEndsWithItsError(t *testing.T) {
	for _, enc := range []encoding{inJSON, inProtobuf} {
		t.Run(enc.String(), func(t *testing.T) {
			batches := [][]cache.Event{{{Type: watch.Bookmark, Rev: 7}}, nil}
			next := func(context.Context) ([]cache.Event, error) {
				b := batches[0]
				batches = batches[1:]
				if b == nil {
					return nil, apierrors.NewResourceExpired("too old resource version")
				}
				return b, nil
			}
			ep := &endpoint{kind: core.ConfigMap, gvk: core.ConfigMap.GVK()}
			s := &stream{call: &call{endpoint: ep, media: media{encoding: enc}}}
			var got []byte
			flushes := 0
			s.run(t.Context(), next, func(b []byte) error { got = append(got, b...); return nil }, func() error { flushes++; return nil })
			if flushes != 3 {
				t.Errorf("%d flushes, want one at the start and one for each batch", flushes)
			}
			events := decodeFrames(t, enc, got)
			if len(events) != 2 || events[0].Type != "BOOKMARK" || events[1].Type != "ERROR" {
				t.Fatalf("events %v", events)
			}
			if text := string(events[1].Object.Raw); !strings.Contains(text, "too old resource version") || !strings.Contains(text, "Expired") {
				t.Errorf("error event %q", text)
			}
		})
	}
}

func decodeFrames(t *testing.T, enc encoding, data []byte) []metav1.WatchEvent {
	t.Helper()
	var out []metav1.WatchEvent
	for len(data) > 0 {
		var ev metav1.WatchEvent
		var err error
		if enc == inProtobuf {
			n := binary.BigEndian.Uint32(data)
			err = ev.Unmarshal(data[4 : 4+n])
			data = data[4+n:]
		} else {
			line, rest, _ := bytes.Cut(data, []byte("\n"))
			err = json.Unmarshal(line, &ev)
			data = rest
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}
