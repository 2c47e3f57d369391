package client_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"hardway/shared/client"
)

// TestSilentConnectionIsGivenUp has a load balancer in between that keeps the client's half of a connection up while
// nothing comes through any more.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done() // a watch without events
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close) // after the balancer's connections, which its requests wait on
	front, freeze := balancer(t, server.Listener.Addr().String())

	web, err := rest.HTTPClientFor(client.Tune(&rest.Config{Host: "https://" + front, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, "test"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+front, nil)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := web.Do(request) //nolint:bodyclose // below
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	if watch.ProtoMajor != 2 {
		t.Fatalf("it speaks %s", watch.Proto)
	}
	freeze()
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(watch.Body)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the watch ended as if all was well")
		}
	case <-time.After(20 * time.Second):
		t.Error("the watch still waits after 20 s")
	}
}

// balancer relays connections until it is frozen: then they stay open, and nothing comes through.
func balancer(t *testing.T, to string) (address string, freeze func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	frozen := make(chan struct{})
	relay := func(from, to net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-frozen:
				continue // swallowed
			default:
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				return
			}
			t.Cleanup(func() { client.Close(); server.Close() })
			go relay(client, server)
			go relay(server, client)
		}
	}()
	return l.Addr().String(), sync.OnceFunc(func() { close(frozen) })
}
