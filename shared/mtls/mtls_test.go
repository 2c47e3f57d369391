package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hardway/shared/testenv/certs"
)

// files writes a CA and a certificate for name, and returns their paths.
func files(t *testing.T, dir string, ca *certs.CA, name string) Files {
	t.Helper()
	f := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	leaf, err := ca.Issue(certs.Leaf{CommonName: name, Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{f.Cert: leaf.CertPEM, f.Key: leaf.KeyPEM, f.CA: ca.PEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// handshake connects client to server over a pipe and returns the name each side saw.
func handshake(t *testing.T, server *tls.Config, client *tls.Config) (sawServer, sawClient string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer l.Close()
	saw := make(chan []*x509.Certificate, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		srv := tls.Server(conn, server)
		if srv.HandshakeContext(t.Context()) == nil {
			saw <- srv.ConnectionState().PeerCertificates
		}
		close(saw)
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	c := tls.Client(conn, client)
	if err := c.HandshakeContext(t.Context()); err != nil {
		return "", "", err
	}
	name := func(certs []*x509.Certificate) string {
		if len(certs) == 0 {
			return ""
		}
		return certs[0].Subject.CommonName
	}
	return name(c.ConnectionState().PeerCertificates), name(<-saw), nil
}

func TestHandshakeVerifiesBothSides(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	server, err := Server(files(t, t.TempDir(), ca, "server"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(files(t, t.TempDir(), ca, "client"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := Client(files(t, t.TempDir(), other, "stranger"))
	if err != nil {
		t.Fatal(err)
	}
	if s, c, err := handshake(t, server, client.TLS("127.0.0.1")); err != nil || s != "server" || c != "client" {
		t.Errorf("good pair: server %q client %q err %v", s, c, err)
	}
	if _, _, err := handshake(t, server, client.TLS("127.0.0.2")); err == nil {
		t.Error("a server of another address was accepted")
	}
	if _, _, err := handshake(t, server, stranger.TLS("127.0.0.1")); err == nil {
		t.Error("a server of another CA was accepted")
	}
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	f := files(t, dir, newCA(t), "before")
	p, err := open(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := func() string { return p.current().cert.Leaf.Subject.CommonName }
	files(t, dir, newCA(t), "afterwards")
	if got := seen(); got != "before" {
		t.Errorf("within a second: certificate of %q", got)
	}
	p.looked = time.Time{}
	if got := seen(); got != "afterwards" {
		t.Errorf("after a second: certificate of %q", got)
	}
	if err := os.WriteFile(f.Key, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.looked = time.Time{}
	if got := seen(); got != "afterwards" {
		t.Errorf("with a torn key file: certificate of %q", got)
	}
}

func newCA(t *testing.T) *certs.CA {
	t.Helper()
	ca, err := certs.NewCA("test-ca")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
