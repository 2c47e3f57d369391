package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hardway/shared/testenv/certs"
)

// apiSide is one API server with its etcd: upstream's two programs, or ours in one.
type apiSide struct {
	name, dir string
	address   string
	ca        *certs.CA
	commands  [][]string // in the order of their start
	running   []*exec.Cmd
}

const (
	upstreamAPI, upstreamEtcd, upstreamPeer = "127.0.0.1:7443", "https://127.0.0.1:7379", "https://127.0.0.1:7380"
	oursAPI                                 = "127.0.0.1:7444"
	serviceRange                            = "10.96.0.0/16"
)

// apiSides makes both sides, with the same settings where there is a choice: TLS with client certificates, Node and RBAC
// authorization, etcd that syncs every write to disk.
func apiSides(o options, dir string) ([2]*apiSide, error) {
	ca, err := certs.NewCA("bench")
	if err != nil {
		return [2]*apiSide{}, err
	}
	if err := serverFiles(ca, dir); err != nil {
		return [2]*apiSide{}, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	common := []string{
		"--tls-cert-file=" + file("server.pem"), "--tls-private-key-file=" + file("server-key.pem"), "--client-ca-file=" + file("ca.pem"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--service-cluster-ip-range=" + serviceRange,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + file("sa.pem"),
		"--service-account-signing-key-file=" + file("sa-key.pem"), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
	}
	upstream := &apiSide{name: "upstream", dir: file("upstream"), address: upstreamAPI, ca: ca, commands: [][]string{
		{filepath.Join(o.peers, "etcd"), "--name=bench", "--data-dir=" + file("upstream/etcd"),
			"--listen-client-urls=" + upstreamEtcd, "--advertise-client-urls=" + upstreamEtcd, "--listen-peer-urls=" + upstreamPeer,
			"--initial-advertise-peer-urls=" + upstreamPeer, "--initial-cluster=bench=" + upstreamPeer,
			"--client-cert-auth", "--trusted-ca-file=" + file("ca.pem"), "--cert-file=" + file("server.pem"), "--key-file=" + file("server-key.pem"),
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + file("ca.pem"), "--peer-cert-file=" + file("server.pem"),
			"--peer-key-file=" + file("server-key.pem"), "--log-level=warn"},
		append([]string{filepath.Join(o.peers, "kube-apiserver"), "--secure-port=7443", "--etcd-servers=" + upstreamEtcd, "--etcd-cafile=" + file("ca.pem"),
			"--etcd-certfile=" + file("server.pem"), "--etcd-keyfile=" + file("server-key.pem")}, common...),
	}}
	ours := &apiSide{name: "hardway", dir: file("hardway"), address: oursAPI, ca: ca, commands: [][]string{
		append([]string{filepath.Join(o.bin, "hardway-apiserver"), "--secure-port=7444", "--etcd-data-dir=" + file("hardway/etcd")}, common...),
	}}
	return [2]*apiSide{upstream, ours}, nil
}

func serverFiles(ca *certs.CA, dir string) error {
	leaf, err := ca.Issue(certs.Leaf{CommonName: "kubernetes", Organization: []string{"system:masters"},
		Hosts: []string{"127.0.0.1", "localhost", "10.96.0.1", "kubernetes.default.svc"}})
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"ca.pem": ca.PEM, "server.pem": leaf.CertPEM, "server-key.pem": leaf.KeyPEM,
		"sa-key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"sa.pem":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start starts the side with the data that it has, and returns how long it took from the first exec until /readyz was ok.
func (s *apiSide) start(ctx context.Context) (time.Duration, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return 0, err
	}
	begin := time.Now()
	for _, command := range s.commands {
		log, err := os.OpenFile(filepath.Join(s.dir, filepath.Base(command[0])+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = cmd.Start()
		log.Close() //nolint:errcheck // the process has its own
		if err != nil {
			return 0, fmt.Errorf("start %s: %w", command[0], err)
		}
		s.running = append(s.running, cmd)
	}
	if err := s.ready(ctx); err != nil {
		s.stop()
		return 0, err
	}
	return time.Since(begin), nil
}

func (s *apiSide) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	client, err := rest.HTTPClientFor(s.config())
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.address+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close() //nolint:errcheck // only the status counts
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its logs are in %s", s.name, context.Cause(ctx), s.dir)
		case <-tick.C:
		}
	}
}

// stop ends the side's processes, the last started first; data and logs stay.
func (s *apiSide) stop() {
	for i := len(s.running) - 1; i >= 0; i-- {
		cmd := s.running[i]
		cmd.Process.Signal(syscall.SIGTERM)                                   //nolint:errcheck // it may have ended
		kill := time.AfterFunc(15*time.Second, func() { cmd.Process.Kill() }) //nolint:errcheck // likewise
		cmd.Wait()                                                            //nolint:errcheck // likewise
		kill.Stop()
	}
	s.running = nil
}

// fresh removes what the side has stored.
func (s *apiSide) fresh() error { return os.RemoveAll(filepath.Join(s.dir, "etcd")) }

// config is that of an administrator: protobuf, a connection of its own, no limit of its own.
func (s *apiSide) config() *rest.Config {
	leaf, err := s.ca.Issue(certs.Leaf{CommonName: "bench", Organization: []string{"system:masters"}})
	if err != nil {
		panic(err) // the CA was made here
	}
	const protobuf = "application/vnd.kubernetes.protobuf"
	return &rest.Config{
		Host: "https://" + s.address, QPS: -1, UserAgent: "bench",
		ContentConfig:   rest.ContentConfig{ContentType: protobuf, AcceptContentTypes: protobuf},
		TLSClientConfig: rest.TLSClientConfig{CAData: bytes.Clone(s.ca.PEM), CertData: leaf.CertPEM, KeyData: leaf.KeyPEM},
		Dial:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}
}

// clients are n clients on connections of their own.
func (s *apiSide) clients(n int) ([]*kubernetes.Clientset, error) {
	all := make([]*kubernetes.Clientset, n)
	for i := range all {
		var err error
		if all[i], err = kubernetes.NewForConfig(s.config()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// used is the CPU time of the side's processes in seconds, and their resident memory in MiB.
func (s *apiSide) used() (seconds, memory float64) {
	for _, cmd := range s.running {
		c, _ := cpu(cmd.Process.Pid)
		m, _ := rss(cmd.Process.Pid)
		seconds, memory = seconds+c, memory+m
	}
	return seconds, memory
}
