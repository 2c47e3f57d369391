package image

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"hardway/nodeagent/image/imagetest"
)

// registryServer is a registry with one image, app:1.
type registryServer struct {
	host   string
	img    v1.Image
	blobs  atomic.Int32 // blobs fetched
	wanted string       // user and password; empty: everybody may pull
	gate   chan struct{}
}

func newRegistry(t *testing.T, wanted string) *registryServer {
	t.Helper()
	s := &registryServer{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		if s.wanted != "" && user+":"+pass != s.wanted {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			s.blobs.Add(1)
			if s.gate != nil {
				<-s.gate
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.host = strings.TrimPrefix(srv.URL, "http://")
	var err error
	if s.img, err = tarball.ImageFromPath(imagetest.DockerArchive(t, twoImages()[0]), nil); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(s.host + "/team/app:1")
	if err == nil {
		err = remote.Write(ref, s.img)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.wanted = wanted
	s.blobs.Store(0)
	return s
}

func TestPull(t *testing.T) {
	reg := newRegistry(t, "")
	digest, err := reg.img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	m, err := s.Pull(t.Context(), reg.host+"/team/app:1", Auth{})
	if err != nil || m.Digest != digest.String() || m.Config.User != "7" {
		t.Fatalf("got %+v, %v", m, err)
	}
	for _, ref := range []string{reg.host + "/team/app:1", reg.host + "/team/app@" + digest.String(), m.ID} {
		if got, ok := s.Get(ref); !ok || got.ID != m.ID {
			t.Errorf("get %s: %v", ref, ok)
		}
	}
	before := reg.blobs.Load()
	if _, err := s.Pull(t.Context(), reg.host+"/team/app@"+digest.String(), Auth{}); err != nil {
		t.Errorf("by digest: %v", err)
	}
	if n := reg.blobs.Load() - before; n > 1 { // the configuration, no layer
		t.Errorf("%d blobs were fetched again", n)
	}
	for ref, want := range map[string]error{reg.host + "/team/app:2": ErrNotFound, reg.host + "/team/none:1": ErrNotFound} {
		if _, err := s.Pull(t.Context(), ref, Auth{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", ref, err, want)
		}
	}
	if err := s.Remove(reg.host + "/team/app:1"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(m.ID); ok {
		t.Error("the image outlived its last tag")
	}
}

func TestPullWithCredentials(t *testing.T) {
	reg := newRegistry(t, "me:secret")
	s := newStore(t, Options{})
	for _, auth := range []Auth{{}, {Username: "me", Password: "wrong"}} {
		if _, err := s.Pull(t.Context(), reg.host+"/team/app:1", auth); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("with %+v: %v", auth, err)
		}
	}
	if _, err := s.Pull(t.Context(), reg.host+"/team/app:1", Auth{Username: "me", Password: "secret"}); err != nil {
		t.Error(err)
	}
}

func TestPullFromMirror(t *testing.T) {
	mirror := newRegistry(t, "")
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a mirror got credentials")
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer broken.Close()
	s := newStore(t, Options{Mirrors: map[string][]string{"registry.example": {broken.URL, "http://" + mirror.host}}})
	m, err := s.Pull(t.Context(), "registry.example/team/app:1", Auth{Username: "me", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Get("registry.example/team/app:1"); !ok || got.ID != m.ID {
		t.Error("the image does not have the name it was asked for by")
	}
}

func TestPullsAreShared(t *testing.T) {
	reg := newRegistry(t, "")
	reg.gate = make(chan struct{})
	s := newStore(t, Options{})
	var wg sync.WaitGroup
	impatient, giveUp := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := s.Pull(impatient, reg.host+"/team/app:1", Auth{}); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who gave up: %v", err)
		}
	})
	for range 4 {
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), reg.host+"/team/app:1", Auth{}); err != nil {
				t.Error(err)
			}
		})
	}
	reg.gate <- struct{}{} // somebody has begun
	giveUp()
	close(reg.gate)
	wg.Wait()
	if n := reg.blobs.Load(); n > 4 { // two, and two more if the impatient one was alone at first
		t.Errorf("%d blobs were fetched for five pulls of two", n)
	}
}
