package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

// calls are creations of config maps with the given names.
func calls(names ...string) (out []*client.Call) {
	for _, name := range names {
		out = append(out, &client.Call{Path: "/api/v1/namespaces/default/configmaps", Body: configMap(name, nil), Into: &corev1.ConfigMap{}})
	}
	return out
}

// TestPostAll creates objects together in the real API server, again and again over one connection, some of which are there already.
func TestPostAll(t *testing.T) {
	env := testenv.Start(t)
	api := env.API()
	for round := range 3 {
		names := []string{"same"}
		for i := range 10 {
			names = append(names, fmt.Sprint("c", round, "-", i))
		}
		list := calls(names...)
		api.PostAll(t.Context(), corev1.SchemeGroupVersion, list)
		for i, c := range list {
			if i == 0 && round > 0 {
				if !apierrors.IsAlreadyExists(c.Err) {
					t.Errorf("round %d: what is there already: %v", round, c.Err)
				}
			} else if made := c.Into.(*corev1.ConfigMap); c.Err != nil || made.Name != names[i] || made.UID == "" || made.Data["k"] != "v" {
				t.Errorf("round %d: %s: %v, %v", round, names[i], made, c.Err)
			}
		}
	}
	env.Kill()
	list := calls("x", "y")
	api.PostAll(t.Context(), corev1.SchemeGroupVersion, list)
	for _, c := range list {
		if c.Err == nil {
			t.Errorf("nobody was there, and nothing is wrong")
		}
	}
	env.Relaunch(env.Address)
	list = calls("x", "y")
	api.PostAll(t.Context(), corev1.SchemeGroupVersion, list)
	for _, c := range list {
		if c.Err != nil {
			t.Errorf("after the restart: %v", c.Err)
		}
	}
	all, err := client.ConfigMaps.List(t.Context(), api, "default", metav1.ListOptions{})
	if err != nil || len(all.Items) < 33 {
		t.Errorf("%d config maps, want 33 at least: %v", len(all.Items), err)
	}
}

// asked counts how a server was asked.
type asked struct {
	mu      sync.Mutex
	conns   map[string]bool // that were piped over; guarded by mu, as are the others
	piped   int
	singles int
}

// answers is a server that does with each piped request what it is told to.
func answers(t *testing.T, piped func(n int, w http.ResponseWriter)) (*httptest.Server, *asked) {
	t.Helper()
	got := &asked{conns: map[string]bool{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got.mu.Lock()
		if r.ProtoMajor == 2 {
			got.singles++
		} else {
			got.conns[r.RemoteAddr] = true
			got.piped++
		}
		n := got.piped
		got.mu.Unlock()
		if r.ProtoMajor == 2 {
			http.Error(w, "asked alone", http.StatusTeapot)
		} else {
			piped(n, w)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, got
}

func TestPipes(t *testing.T) {
	for name, test := range map[string]struct {
		calls          int
		rounds         int
		piped          func(n int, w http.ResponseWriter)
		change         func(*rest.Config)
		pipes, singles int // requests
		conns, failed  int
	}{
		"one alone":       {calls: 1, rounds: 2, singles: 2, failed: 2},
		"several at once": {calls: 9, rounds: 3, pipes: 27, conns: 1},
		"one is refused":  {calls: 9, rounds: 1, piped: func(n int, w http.ResponseWriter) { refuse(n == 4, w) }, pipes: 9, conns: 1, singles: 1, failed: 1},
		"the server hangs up after one": {calls: 4, rounds: 1, piped: func(n int, w http.ResponseWriter) {
			if n == 2 {
				w.Header().Set("Connection", "close")
			}
		}, pipes: 2, conns: 1, singles: 2, failed: 2},
		"the server breaks in the middle": {calls: 4, rounds: 1, piped: func(n int, _ http.ResponseWriter) {
			if n == 2 {
				panic(http.ErrAbortHandler)
			}
		}, pipes: 2, conns: 1, singles: 3, failed: 3},
		"with a token":       {calls: 3, rounds: 1, change: func(c *rest.Config) { c.BearerToken = "t" }, singles: 3, failed: 3},
		"in another's stead": {calls: 3, rounds: 1, change: func(c *rest.Config) { c.Impersonate.UserName = "u" }, singles: 3, failed: 3},
	} {
		t.Run(name, func(t *testing.T) {
			server, got := answers(t, func(n int, w http.ResponseWriter) {
				if test.piped != nil {
					test.piped(n, w)
				}
			})
			cfg := client.Tune(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, "test")
			if test.change != nil {
				test.change(cfg)
			}
			api, err := client.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			failed := 0
			for range test.rounds {
				list := calls(make([]string, test.calls)...)
				for _, c := range list {
					c.Into = nil
				}
				api.PostAll(t.Context(), corev1.SchemeGroupVersion, list)
				for _, c := range list {
					if c.Err != nil {
						failed++
					}
				}
			}
			if got.piped != test.pipes || got.singles != test.singles || len(got.conns) != test.conns || failed != test.failed {
				t.Errorf("%d piped over %d connections, %d alone, %d failed; want %d over %d, %d, %d",
					got.piped, len(got.conns), got.singles, failed, test.pipes, test.conns, test.singles, test.failed)
			}
		})
	}
}

func refuse(is bool, w http.ResponseWriter) {
	if is {
		http.Error(w, "no", http.StatusConflict)
	}
}
