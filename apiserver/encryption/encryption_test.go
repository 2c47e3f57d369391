package encryption

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	secrets = schema.GroupResource{Resource: "secrets"}
	one     = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	two     = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
)

const where = "/registry/secrets/ns/s"

// file is a configuration for secrets with the given providers.
func file(t *testing.T, providers string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "encryption-config.yaml")
	write(t, path, providers)
	return path
}

func write(t *testing.T, path, providers string) {
	t.Helper()
	text := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers: [" + providers + "]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, providers string) *Encryption {
	t.Helper()
	e, err := Open(file(t, providers))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func provides(kind string, keys ...string) string {
	out := "{" + kind + ": {keys: ["
	for i := 0; i < len(keys); i += 2 {
		out += fmt.Sprintf("{name: %s, secret: %q},", keys[i], keys[i+1])
	}
	return out + "]}}"
}

func TestRoundTrip(t *testing.T) {
	for _, kind := range []string{"aescbc", "aesgcm", "secretbox"} {
		t.Run(kind, func(t *testing.T) {
			tr := open(t, provides(kind, "key1", one)).For(secrets)
			for n := range 70 {
				text := bytes.Repeat([]byte("x"), n)
				sealed, err := tr.Seal(t.Context(), where, text)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(string(sealed), "k8s:enc:"+kind+":v1:key1:") || n > 3 && bytes.Contains(sealed, text) {
					t.Fatalf("sealed: %q", sealed)
				}
				got, stale, err := tr.Open(t.Context(), where, sealed)
				if err != nil || stale || !bytes.Equal(got, text) {
					t.Fatalf("%d bytes: %q, stale %v, %v", n, got, stale, err)
				}
			}
		})
	}
}

// TestUpstreams opens what upstream has sealed.
func TestUpstreams(t *testing.T) {
	for kind, sealed := range upstreams {
		value, err := base64.StdEncoding.DecodeString(sealed)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := open(t, provides(kind, "key1", one)).For(secrets).Open(t.Context(), where, value)
		if err != nil || string(got) != "the plain text" {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
}

func TestNewKeyInFront(t *testing.T) {
	old := open(t, provides("aescbc", "key1", one)).For(secrets)
	sealed, err := old.Seal(t.Context(), where, []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	now := open(t, provides("aescbc", "key2", two, "key1", one)).For(secrets)
	got, stale, err := now.Open(t.Context(), where, sealed)
	if err != nil || !stale || string(got) != "v" {
		t.Errorf("%q, stale %v, %v", got, stale, err)
	}
	again, err := now.Seal(t.Context(), where, got)
	if err != nil || !strings.HasPrefix(string(again), "k8s:enc:aescbc:v1:key2:") {
		t.Errorf("%q, %v", again, err)
	}
	retired := open(t, provides("aescbc", "key2", two)).For(secrets)
	if _, _, err := retired.Open(t.Context(), where, sealed); err == nil || !strings.Contains(err.Error(), `"k8s:enc:aescbc:v1:key1:"`) {
		t.Errorf("without the key: %v", err)
	}
}

func TestPlainValues(t *testing.T) {
	lax := open(t, provides("aescbc", "key1", one)+", {identity: {}}").For(secrets)
	if got, stale, err := lax.Open(t.Context(), where, []byte("plain")); err != nil || !stale || string(got) != "plain" {
		t.Errorf("with identity: %q, stale %v, %v", got, stale, err)
	}
	strict := open(t, provides("aescbc", "key1", one)).For(secrets)
	if _, _, err := strict.Open(t.Context(), where, []byte("plain")); err == nil {
		t.Error("without identity a plain value was believed")
	}
	others := open(t, provides("aescbc", "key1", one)).For(schema.GroupResource{Resource: "pods"})
	if got, err := others.Seal(t.Context(), where, []byte("plain")); err != nil || string(got) != "plain" {
		t.Errorf("another kind: %q, %v", got, err)
	}
}

// TestDamage: whatever is stored, Open answers with an error or with bytes.
func TestDamage(t *testing.T) {
	for _, kind := range []string{"aescbc", "aesgcm", "secretbox"} {
		tr := open(t, provides(kind, "key1", one)).For(secrets)
		sealed, err := tr.Seal(t.Context(), where, []byte("some text"))
		if err != nil {
			t.Fatal(err)
		}
		for n := range sealed {
			if _, _, err := tr.Open(t.Context(), where, sealed[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes open", kind, n, len(sealed))
			}
		}
		if kind == "aescbc" {
			continue // notices neither of these
		}
		sealed[len(sealed)-1] ^= 1
		if _, _, err := tr.Open(t.Context(), where, sealed); err == nil {
			t.Errorf("%s: a changed bit was not noticed", kind)
		}
	}
	tr := open(t, provides("aesgcm", "key1", one)).For(secrets)
	sealed, _ := tr.Seal(t.Context(), where, []byte("some text")) //nolint:errcheck // opened below
	if _, _, err := tr.Open(t.Context(), "/registry/secrets/ns/other", sealed); err == nil {
		t.Error("a value moved to another object was opened")
	}
}

func TestBadConfigurations(t *testing.T) {
	head := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\n"
	entry := func(resources, providers string) string {
		return head + "resources:\n- resources: [" + resources + "]\n  providers: [" + providers + "]\n"
	}
	good := provides("aescbc", "key1", one)
	for name, c := range map[string]struct{ text, want string }{
		"kind":          {"kind: Pod\napiVersion: v1\n", `kind "Pod" of "v1"`},
		"unknown field": {entry("secrets", good) + "resource: []\n", "resource"},
		"no entries":    {head, "at least one entry"},
		"no resources":  {entry("", good), "resources[0].resources: at least one"},
		"star":          {entry(`"*"`, good), `use "*."`},
		"group open":    {entry(`"pods.*"`, good), "a group cannot be left open"},
		"twice":         {entry("secrets", good) + "- resources: [secrets]\n  providers: [" + good + "]\n", "covered by an earlier entry"},
		"no providers":  {entry("secrets", ""), "resources[0].providers: at least one"},
		"two in one":    {entry("secrets", `{identity: {}, aesgcm: {keys: []}}`), "resources[0].providers[0]: exactly one"},
		"no keys":       {entry("secrets", `{aesgcm: {keys: []}}`), "providers[0].aesgcm.keys: at least one"},
		"colon":         {entry("secrets", provides("aesgcm", `"a:b"`, one)), "must not be empty or contain a colon"},
		"same name":     {entry("secrets", provides("aesgcm", "a", one, "a", two)), "is there twice"},
		"not base64":    {entry("secrets", provides("aesgcm", "a", "%%%")), "keys[0].secret is not base64"},
		"short key":     {entry("secrets", provides("secretbox", "a", "AAAA")), "has 3 bytes, must have 32"},
		"old kms":       {entry("secrets", `{kms: {name: k, endpoint: "unix:///x"}}`), `apiVersion: "" is not served`},
		"kms address":   {entry("secrets", `{kms: {apiVersion: v2, name: k, endpoint: "tcp://x"}}`), "does not begin with unix://"},
	} {
		if _, err := parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	old := "kind: EncryptionConfig\napiVersion: v1\nresources:\n- resources: [secrets]\n  providers: [" + good + ", {identity: {}}]\n"
	if _, err := parse([]byte(old)); err != nil {
		t.Errorf("the file of Kubernetes the Hard Way: %v", err)
	}
}

func TestSelects(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	for name, want := range map[string]string{
		"secrets": "secrets", "deployments.apps": "deployments", "*.": "secrets", "*.apps": "deployments", "*.*": "secrets deployments", "deployments": "",
	} {
		got := ""
		for _, gr := range []schema.GroupResource{secrets, deployments} {
			if selects(name, gr) {
				got = strings.TrimSpace(got + " " + gr.Resource)
			}
		}
		if got != want {
			t.Errorf("%s selects %q, want %q", name, got, want)
		}
	}
}

// TestFollow: a new file comes into force, a wrong one does not.
func TestFollow(t *testing.T) {
	path := file(t, provides("aescbc", "key1", one))
	e, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	prefix := func() string {
		sealed, err := e.For(secrets).Seal(t.Context(), where, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(prefixOf(sealed))
	}
	synctest.Test(t, func(t *testing.T) {
		go e.Follow(t.Context(), time.Second, true, zap.NewNop()) //nolint:errcheck // never fails
		write(t, path, provides("aescbc", "key2", two, "key1", one))
		time.Sleep(2 * time.Second)
		if got := prefix(); got != "k8s:enc:aescbc:v1:key2:" || !e.Reloaded() {
			t.Errorf("got %s", got)
		}
		write(t, path, "")
		time.Sleep(2 * time.Second)
		if got := prefix(); got != "k8s:enc:aescbc:v1:key2:" {
			t.Errorf("after a wrong file: %s", got)
		}
	})
}
