package legacytoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestToken: tokens of both kinds of keys can be verified with the public half, and say what they should.
func TestToken(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot", UID: "u"}}
	for alg, key := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := loadSigner(file)
		if err != nil {
			t.Fatal(err)
		}
		token, err := s.token(account, "secret")
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(token, ".")
		header, body, signature := decode(t, parts[0]), decode(t, parts[1]), decode(t, parts[2])
		hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		valid := false
		switch k := key.(type) {
		case *rsa.PrivateKey:
			valid = rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, hash[:], signature) == nil
		case *ecdsa.PrivateKey:
			valid = ecdsa.Verify(&k.PublicKey, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		}
		if !valid || !strings.Contains(string(header), alg) || !strings.Contains(string(body), `"sub":"system:serviceaccount:ns:robot"`) {
			t.Errorf("%s: valid %v, %s %s", alg, valid, header, body)
		}
	}
	file := filepath.Join(t.TempDir(), "no.pem")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSigner(file); err == nil {
		t.Error("loaded a key from nothing")
	}
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
