package storetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"hardway/apiserver/etcd"
	"hardway/apiserver/store"
)

func start(t *testing.T, o etcd.Options) *etcd.Server {
	t.Helper()
	o.DataDir = t.TempDir() + "/etcd"
	o.Log = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	e, err := etcd.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	return e
}

func compactor(c *clientv3.Client) Compactor {
	return func(t *testing.T, rev int64) {
		t.Helper()
		if _, err := c.Compact(t.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInProcess(t *testing.T) {
	Run(t, func(t *testing.T) (*store.Store, Compactor) {
		e := start(t, etcd.Options{})
		return store.New(e.Client(), store.Options{Revision: e.Revision()}), compactor(e.Client())
	})
}

func TestOverMutualTLS(t *testing.T) {
	tls := certificates(t)
	Run(t, func(t *testing.T) (*store.Store, Compactor) {
		e := start(t, etcd.Options{ListenClient: []string{"https://127.0.0.1:0"}, ClientTLS: tls})
		c, err := etcd.Dial(t.Context(), etcd.External{Endpoints: e.ClientURLs(), TLS: tls})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return store.New(c, store.Options{}), compactor(c)
	})
}

func TestStrangersAreRefused(t *testing.T) {
	e := start(t, etcd.Options{ListenClient: []string{"https://127.0.0.1:0"}, ClientTLS: certificates(t)})
	stranger := certificates(t)
	c, err := etcd.Dial(t.Context(), etcd.External{Endpoints: e.ClientURLs(), TLS: stranger, Timeout: 300 * time.Millisecond})
	if err == nil {
		c.Close()
		t.Fatal("a client of another CA was let in")
	}
}

// certificates makes a CA and one certificate for both sides.
func certificates(t *testing.T) etcd.TLS {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := etcd.TLS{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "cert")}
	for file, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
