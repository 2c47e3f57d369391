package serviceaccount

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/authn"
)

// world is what tokens can be bound to.
type world struct {
	account *corev1.ServiceAccount
	pod     *corev1.Pod
	secret  *corev1.Secret
}

func (w *world) ServiceAccount(_, name string) *corev1.ServiceAccount {
	if w.account == nil || w.account.Name != name {
		return nil
	}
	return w.account
}

func (w *world) Pod(_, name string) *corev1.Pod {
	if w.pod == nil || w.pod.Name != name {
		return nil
	}
	return w.pod
}
func (w *world) Node(string) *corev1.Node             { return nil }
func (w *world) Secret(string, string) *corev1.Secret { return w.secret }

func newWorld() *world {
	return &world{
		account: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "robot", UID: "sa-1"}},
		pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "web", UID: "pod-1"},
			Spec: corev1.PodSpec{ServiceAccountName: "robot", NodeName: "n1"}},
	}
}

// keyFile writes a new private key.
func keyFile(t *testing.T) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, key
}

func newTokens(t *testing.T, w *world, file string, now *time.Time) *Tokens {
	t.Helper()
	tokens, err := New(Options{SigningFile: file, Issuers: []string{"https://here"}, Extend: true, Objects: w, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func podToken(t *testing.T, tokens *Tokens, w *world, seconds int64, audiences ...string) string {
	t.Helper()
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: audiences, ExpirationSeconds: &seconds, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "pod-1"},
	}}
	if err := tokens.Issue(t.Context(), w.account, r); err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

func TestATokenEndsWithWhatItIsBoundTo(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	file, _ := keyFile(t)
	for name, row := range map[string]struct {
		seconds int64
		change  func(w *world)
		later   time.Duration
		refusal string
	}{
		"at once":                  {seconds: 600},
		"shortly before its end":   {seconds: 600, later: 599 * time.Second},
		"after its end":            {seconds: 600, later: 11 * time.Minute, refusal: "has expired"},
		"a mounted token lives on": {seconds: mountedLife, later: 100 * time.Hour},
		"the pod is gone":          {seconds: 600, change: func(w *world) { w.pod = nil }, refusal: "its pod is gone"},
		"another pod of that name": {seconds: 600, change: func(w *world) { w.pod.UID = "pod-2" }, refusal: "its pod is gone"},
		"the account is gone":      {seconds: 600, change: func(w *world) { w.account = nil }, refusal: "its service account is gone"},
		"another account":          {seconds: 600, change: func(w *world) { w.account.UID = "sa-2" }, refusal: "its service account is gone"},
		"the pod was to go": {seconds: 600, change: func(w *world) { w.pod.DeletionTimestamp = &metav1.Time{Time: now} }, later: 2 * time.Minute,
			refusal: "its pod is gone"},
	} {
		w, clock := newWorld(), now
		tokens := newTokens(t, w, file, &clock)
		token := podToken(t, tokens, w, row.seconds)
		if row.change != nil {
			row.change(w)
		}
		clock = now.Add(row.later)
		id, err := tokens.Authenticate(t.Context(), token, nil)
		if (err == nil) != (row.refusal == "") || err != nil && !strings.Contains(err.Error(), row.refusal) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (id.User.Name != "system:serviceaccount:dev:robot" || id.User.Extra[extra+"pod-name"][0] != "web" || id.User.Extra[extra+"node-name"][0] != "n1") {
			t.Errorf("%s: %+v", name, id.User)
		}
	}
}

func TestForgedTokens(t *testing.T) {
	now := time.Now()
	w := newWorld()
	file, key := keyFile(t)
	otherFile, _ := keyFile(t)
	tokens := newTokens(t, w, file, &now)
	good := podToken(t, tokens, w, 600)
	if _, err := tokens.Authenticate(t.Context(), good, nil); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	none := "eyJhbGciOiJub25lIn0." + parts[1] + "."
	foreign, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := jwt.Signed(foreign).Claims(jwt.Claims{Issuer: "https://there", Subject: "system:serviceaccount:dev:robot"}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		token     string
		audiences []string
		notMine   bool
	}{
		"no signature":      {token: none},
		"another signature": {token: podToken(t, newTokens(t, w, otherFile, &now), w, 600)},
		"a changed payload": {token: parts[0] + "." + parts[1][:20] + "A" + parts[1][21:] + "." + parts[2], notMine: true},
		"another audience":  {token: good, audiences: []string{"vault"}},
		"another issuer":    {token: issuer, notMine: true},
		"no token at all":   {token: "hello", notMine: true},
	} {
		_, err := tokens.Authenticate(t.Context(), row.token, row.audiences)
		if err == nil || row.notMine != errors.Is(err, authn.ErrNotMine) && name != "a changed payload" {
			t.Errorf("%s: %v", name, err)
		}
	}
	vault := podToken(t, tokens, w, 600, "vault")
	if _, err := tokens.Authenticate(t.Context(), vault, nil); err == nil {
		t.Error("a token for somebody else is accepted here")
	}
	if id, err := tokens.Authenticate(t.Context(), vault, []string{"vault", "x"}); err != nil || id.Audiences[0] != "vault" {
		t.Errorf("a token reviewed for its audience: %v %v", id, err)
	}
}

func TestIssueRefuses(t *testing.T) {
	now := time.Now()
	w := newWorld()
	file, _ := keyFile(t)
	tokens := newTokens(t, w, file, &now)
	seconds := int64(10)
	for name, r := range map[string]authenticationv1.TokenRequestSpec{
		"less than 10 minutes":     {ExpirationSeconds: &seconds},
		"pods \"other\" not found": {BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "other"}},
		"does not match the UID":   {BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "old"}},
		"object of type":           {BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Service", Name: "web"}},
	} {
		if err := tokens.Issue(t.Context(), w.account, &authenticationv1.TokenRequest{Spec: r}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.pod.Spec.ServiceAccountName = "other"
	bound := authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web"}}
	if err := tokens.Issue(t.Context(), w.account, &authenticationv1.TokenRequest{Spec: bound}); err == nil {
		t.Error("a token for a pod of another account")
	}
}
