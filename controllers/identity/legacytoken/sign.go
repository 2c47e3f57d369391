package legacytoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// signer makes tokens: JWTs by RS256 or ES256 (RFC 7515).
type signer struct {
	key crypto.Signer
	alg string
	id  string // of the key: the hash of its public half
}

func loadSigner(file string) (*signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &signer{key: key}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		s.alg = "RS256"
	case *ecdsa.PrivateKey:
		if k.Params().BitSize != 256 {
			return nil, fmt.Errorf("%s: only elliptic keys of the curve P-256 are supported", file)
		}
		s.alg = "ES256"
	default:
		return nil, fmt.Errorf("%s: keys of type %T are not supported", file, key)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	sum := sha256.Sum256(der)
	s.id = encode(sum[:])
	return s, nil
}

func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "RSA PRIVATE KEY":
			return x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			return x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			if s, ok := key.(crypto.Signer); ok {
				return s, nil
			}
		}
	}
	return nil, errors.New("it holds no private key")
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// claims are upstream's names of what the old tokens say.
type claims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Name      string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// token signs that whoever has it is the account, as long as the Secret holds it.
func (s *signer) token(account *corev1.ServiceAccount, secret string) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": s.alg, "kid": s.id})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims{
		Issuer: "kubernetes/serviceaccount", Subject: "system:serviceaccount:" + account.Namespace + ":" + account.Name,
		Namespace: account.Namespace, Secret: secret, Name: account.Name, UID: string(account.UID),
	})
	if err != nil {
		return "", err
	}
	text := encode(header) + "." + encode(body)
	hash := sha256.Sum256([]byte(text))
	signature, err := s.sign(hash[:])
	if err != nil {
		return "", fmt.Errorf("sign a token for service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	return text + "." + encode(signature), nil
}

func (s *signer) sign(hash []byte) ([]byte, error) {
	k, ok := s.key.(*ecdsa.PrivateKey)
	if !ok {
		return s.key.Sign(rand.Reader, hash, crypto.SHA256)
	}
	x, y, err := ecdsa.Sign(rand.Reader, k, hash)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	x.FillBytes(out[:32])
	y.FillBytes(out[32:])
	return out, nil
}
