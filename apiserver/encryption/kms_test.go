package encryption

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"
)

// keeper is a key service that puts a sign in front of what it seals.
type keeper struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	key   atomic.Value // string
	sick  atomic.Bool
	opens atomic.Int32
}

func (k *keeper) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	health := "ok"
	if k.sick.Load() {
		health = "the vault is sealed"
	}
	return &kmsapi.StatusResponse{Version: "v2", Healthz: health, KeyId: k.key.Load().(string)}, nil
}

func (k *keeper) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	return &kmsapi.EncryptResponse{
		Ciphertext: append([]byte("!"), r.GetPlaintext()...), KeyId: k.key.Load().(string), Annotations: map[string][]byte{"a.example.com": []byte("x")},
	}, nil
}

func (k *keeper) Decrypt(_ context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	k.opens.Add(1)
	if !bytes.HasPrefix(r.GetCiphertext(), []byte("!")) || string(r.GetAnnotations()["a.example.com"]) != "x" {
		return nil, errors.New("not mine")
	}
	return &kmsapi.DecryptResponse{Plaintext: r.GetCiphertext()[1:]}, nil
}

// keep serves a key service and returns the provider that uses it.
func keep(t *testing.T) (*keeper, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	k.key.Store("k1")
	srv := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(srv, k)
	go srv.Serve(l) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	return k, "{kms: {apiVersion: v2, name: vault, endpoint: \"unix://" + path + "\"}}"
}

func TestKeyService(t *testing.T) {
	k, provider := keep(t)
	e := open(t, provider)
	tr := e.For(secrets)
	sealed, err := tr.Seal(t.Context(), where, []byte("the plain text"))
	if err != nil || !bytes.HasPrefix(sealed, []byte("k8s:enc:kms:v2:vault:")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	got, stale, err := tr.Open(t.Context(), where, sealed)
	if err != nil || stale || string(got) != "the plain text" || k.opens.Load() != 0 {
		t.Errorf("%q, stale %v, %v; the service was asked %d times", got, stale, err, k.opens.Load())
	}
	if _, _, err := tr.Open(t.Context(), "/registry/secrets/ns/other", sealed); err == nil {
		t.Error("a value moved to another object was opened")
	}
	// Another server asks the service once.
	other := open(t, provider)
	for range 2 {
		if got, _, err := other.For(secrets).Open(t.Context(), where, sealed); err != nil || string(got) != "the plain text" {
			t.Errorf("another server: %q, %v", got, err)
		}
	}
	if k.opens.Load() != 1 {
		t.Errorf("the service was asked %d times, want once", k.opens.Load())
	}
	// A new key makes old values stale.
	k.key.Store("k2")
	for s := range e.services() {
		if err := s.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, stale, err := tr.Open(t.Context(), where, sealed); err != nil || !stale || !e.Reloaded() {
		t.Errorf("with a new key: stale %v, %v", stale, err)
	}
}

func TestKeyServiceAway(t *testing.T) {
	k, provider := keep(t)
	k.sick.Store(true)
	e := open(t, provider)
	if _, err := e.For(secrets).Seal(t.Context(), where, nil); err == nil || !strings.Contains(err.Error(), "the vault is sealed") {
		t.Errorf("got %v", err)
	}
	if err := e.Ready(t.Context()); err == nil {
		t.Error("ready without a key")
	}
	k.sick.Store(false)
	if _, err := e.For(secrets).Seal(t.Context(), where, nil); err != nil {
		t.Error(err)
	}
	if err := e.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestUpstreamsKeyService opens what upstream's transformer has sealed with such a service.
func TestUpstreamsKeyService(t *testing.T) {
	_, provider := keep(t)
	value, err := base64.StdEncoding.DecodeString(upstreamsKeyService)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := open(t, provider).For(secrets).Open(t.Context(), where, value)
	if err != nil || string(got) != "the plain text" {
		t.Errorf("%q, %v", got, err)
	}
	for n := range value {
		if _, _, err := open(t, provider).For(secrets).Open(t.Context(), where, value[:n]); err == nil {
			t.Fatalf("%d of %d bytes open", n, len(value))
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	e := envelope{data: []byte("d"), keyID: "k", source: []byte("s"), annotations: map[string][]byte{"a": []byte("b")}, seeded: true}
	f.Add(e.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEnvelope(b)
		if err != nil {
			return
		}
		again, err := parseEnvelope(e.append(nil))
		if err != nil || again.id() != e.id() || !bytes.Equal(again.data, e.data) {
			t.Errorf("%+v, then %+v, %v", e, again, err)
		}
	})
}
