package serviceaccount

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// publicKey is a key that tokens may be signed with.
type publicKey struct {
	id  string
	key crypto.PublicKey
	alg jose.SignatureAlgorithm
}

// newPublicKey names a key as upstream does: by the hash of its DER form.
func newPublicKey(key crypto.PublicKey) (publicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return publicKey{}, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	alg, err := algorithm(key)
	return publicKey{base64.RawURLEncoding.EncodeToString(sum[:]), key, alg}, err
}

func algorithm(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch k.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
	}
	return "", fmt.Errorf("a %T cannot sign tokens: an RSA or ECDSA key is wanted", key)
}

// readPublicKeys reads every key of PEM files: public keys, certificates, or private keys, whose public half is taken.
func readPublicKeys(files []string) ([]publicKey, error) {
	var out []publicKey
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read service account key: %w", err)
		}
		n := len(out)
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			key, err := parsePublic(block)
			if err != nil {
				return nil, fmt.Errorf("read service account key %s: %w", file, err)
			}
			if key == nil {
				continue // parameters of a curve
			}
			named, err := newPublicKey(key)
			if err != nil {
				return nil, fmt.Errorf("read service account key %s: %w", file, err)
			}
			out = append(out, named)
		}
		if len(out) == n {
			return nil, fmt.Errorf("read service account key %s: it holds no PEM key", file)
		}
	}
	return out, nil
}

func parsePublic(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	case "EC PARAMETERS":
		return nil, nil
	}
	signer, err := parsePrivate(block)
	if err != nil {
		return nil, err
	}
	return signer.Public(), nil
}

// readSigner reads the first private key of a PEM file.
func readSigner(file string) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the key that signs tokens: %w", err)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "EC PARAMETERS" {
			continue
		}
		signer, err := parsePrivate(block)
		if err != nil {
			return nil, fmt.Errorf("read the key that signs tokens, %s: %w", file, err)
		}
		return signer, nil
	}
	return nil, fmt.Errorf("read the key that signs tokens: %s holds no PEM key", file)
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
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
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, errors.New("a PEM block of type " + block.Type + " is no key")
}
