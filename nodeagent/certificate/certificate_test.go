package certificate

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// cluster signs every request after a while, or says no.
type cluster struct {
	t    *testing.T
	life time.Duration
	deny bool
	sign tls.Certificate

	mu   sync.Mutex
	down bool
	made []*certificatesv1.CertificateSigningRequest
	seen map[string]int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	key, _, err := Want{}.request()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(key)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, life: 100 * time.Hour, sign: tls.Certificate{PrivateKey: k}, seen: map[string]int{}}
}

func (c *cluster) Create(_ context.Context, r *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errors.New("connection refused")
	}
	r = r.DeepCopy()
	r.Name = r.GenerateName + strings.Repeat("x", len(c.made)+1)
	c.made = append(c.made, r)
	return r, nil
}

// Get signs at the third look.
func (c *cluster) Get(_ context.Context, name string) (*certificatesv1.CertificateSigningRequest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.made[len(c.made)-1]
	if c.seen[name]++; c.seen[name] < 3 {
		return r, nil
	}
	if c.deny {
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "No", Message: "never"}}
		return r, nil
	}
	block, _ := pem.Decode(r.Spec.Request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(int64(len(c.made))), Subject: csr.Subject, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now(), NotAfter: time.Now().Add(c.life)}
	der, err := x509.CreateCertificate(rand.Reader, t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}}, csr.PublicKey, c.sign.PrivateKey)
	if err != nil {
		return nil, err
	}
	r.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return r, nil
}

func (c *cluster) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.made)
}

// TestKeeper gets a certificate although the API is away at first, and renews it before it is over.
func TestKeeper(t *testing.T) {
	c := newCluster(t)
	file := filepath.Join(t.TempDir(), "pki", "server.pem")
	synctest.Test(t, func(t *testing.T) {
		c.down = true
		var have atomic.Int32
		k := &Keeper{API: c, Want: Serving("n1", []string{"10.0.0.1"}), File: file, Have: func() { have.Add(1) }, Log: zap.NewNop()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if have.Load() != 0 || Load(file) != nil {
			t.Fatal("a certificate came from nowhere")
		}
		c.mu.Lock()
		c.down = false
		c.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		first := Load(file)
		if first == nil || have.Load() != 1 || first.Subject.CommonName != "system:node:n1" || len(first.IPAddresses) != 1 || len(first.DNSNames) != 1 {
			t.Fatalf("have %d, certificate %+v", have.Load(), first)
		}
		pair, err := tls.LoadX509KeyPair(file, file)
		if err != nil || pair.PrivateKey == nil {
			t.Errorf("the file cannot be served from: %v", err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		time.Sleep(69 * time.Hour)
		synctest.Wait()
		if c.requests() != 1 {
			t.Errorf("renewed before 70 %% of its life: %d requests", c.requests())
		}
		time.Sleep(22 * time.Hour)
		synctest.Wait()
		if second := Load(file); c.requests() != 2 || second == nil || second.SerialNumber.Cmp(first.SerialNumber) == 0 || have.Load() < 2 {
			t.Errorf("not renewed at 90 %% of its life: %d requests, have %d", c.requests(), have.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDenied(t *testing.T) {
	c := newCluster(t)
	synctest.Test(t, func(t *testing.T) {
		c.deny = true
		_, err := Request(t.Context(), c, Client("n1"))
		if err == nil || !strings.Contains(err.Error(), "Denied: No: never") {
			t.Errorf("%v", err)
		}
	})
}

func TestDue(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := func(name string, ips ...string) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "system:node:" + name}, NotBefore: from, NotAfter: from.Add(100 * time.Hour)}
		for _, ip := range ips {
			c.IPAddresses = append(c.IPAddresses, []byte{10, 0, 0, ip[0] - '0'})
		}
		return c
	}
	for name, tc := range map[string]struct {
		want Want
		have *x509.Certificate
		at   float64
		due  time.Time
	}{
		"none":                  {Client("n"), nil, 0, time.Time{}},
		"early":                 {Client("n"), cert("n"), 0, from.Add(70 * time.Hour)},
		"late":                  {Client("n"), cert("n"), 1, from.Add(90 * time.Hour)},
		"of another node":       {Client("n"), cert("m"), 0, time.Time{}},
		"for its address":       {Serving("n", []string{"10.0.0.1"}), cert("n", "1"), 0, from.Add(70 * time.Hour)},
		"for an address it had": {Serving("n", []string{"10.0.0.2"}), cert("n", "1"), 0, time.Time{}},
	} {
		if got := tc.want.Due(tc.have, tc.at); got.Sub(tc.due).Abs() > time.Second {
			t.Errorf("%s: %s, want %s", name, got, tc.due)
		}
	}
}

// TestBootstrap joins with a token's kubeconfig, and does so once.
func TestBootstrap(t *testing.T) {
	dir := t.TempDir()
	b := Bootstrap{From: filepath.Join(dir, "bootstrap"), To: filepath.Join(dir, "kubeconfig"), File: filepath.Join(dir, "client.pem"), Node: "n1", Log: zap.NewNop()}
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: "https://192.0.2.1:6443"}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: "abcdef.0123456789abcdef"}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, b.From)
	if err != nil {
		t.Fatal(err)
	}
	if needed, err := b.Needed(time.Now()); !needed || err != nil {
		t.Errorf("without a kubeconfig: %v, %v", needed, err)
	}
	c := newCluster(t)
	synctest.Test(t, func(t *testing.T) {
		if err := b.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for at, want := range map[time.Duration]bool{0: false, c.life + time.Hour: true} {
			if needed, err := b.Needed(time.Now().Add(at)); needed != want || err != nil {
				t.Errorf("%s after joining: %v, %v", at, needed, err)
			}
		}
	})
	rc, err := clientcmd.BuildConfigFromFlags("", b.To)
	if err != nil || rc.Host != "https://192.0.2.1:6443" || rc.CertFile != b.File || rc.KeyFile != b.File || rc.BearerToken != "" {
		t.Errorf("%+v, %v", rc, err)
	}
}
