package server

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A server that is told to stop fails /readyz first and goes on to serve; then it ends watches cleanly and takes nothing
// new (row A7).
func TestStopInOrder(t *testing.T) {
	c, ca := files(t)
	c.ShutdownDelay = 1500 * time.Millisecond
	r := start(t, c, ca)
	client := r.client("admin")
	get := func(path string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(req)
	}
	watch, err := get("/api/v1/namespaces?watch=1")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()

	eventually(t, func() bool {
		resp, err := get("/readyz")
		if err != nil {
			t.Fatalf("refused before /readyz failed: %v", err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode == http.StatusInternalServerError && strings.Contains(string(text), "[-]shutdown failed")
	})
	if resp, err := get("/api/v1/namespaces/default"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("a request while load balancers still send some: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if resp, err := get("/livez"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/livez while stopping: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	events := bufio.NewReader(watch.Body)
	for err = nil; err == nil; {
		_, err = events.ReadString('\n')
	}
	if err != io.EOF { //nolint:errorlint // as io.Reader promises
		t.Errorf("the watch ended with %v, want a clean end", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if resp, err := get("/livez"); err == nil {
		resp.Body.Close()
		t.Error("still serving after the stop")
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("it did not happen")
		case <-tick.C:
		}
	}
}
