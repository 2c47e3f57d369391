package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"

	"hardway/nodeagent/certificate"
	"hardway/nodeagent/config"
	"hardway/shared/client"
	"hardway/shared/daemon"
	"hardway/shared/mtls"
)

// join gets this node's first client certificate, if it has none and there is a bootstrap kubeconfig to ask with.
func join(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	if cfg.Bootstrap == "" {
		return nil
	}
	b := certificate.Bootstrap{From: cfg.Bootstrap, To: cfg.Kubeconfig, File: cfg.ClientFile(), Node: cfg.Hostname, Log: log}
	needed, err := b.Needed(time.Now())
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	if !needed {
		return nil
	}
	rc, err := client.Config(cfg.Bootstrap, "hardway-nodeagent")
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	api, err := client.New(rc)
	if err != nil {
		return err
	}
	log.Info("asking for a client certificate", zap.String("apiserver", rc.Host))
	return b.Run(ctx, requests{api})
}

// keepClientCertificate renews the certificate that join has got.
func (a *agent) keepClientCertificate(g *daemon.Group) {
	if !a.cfg.Kubelet.RotateCertificates {
		return
	}
	if certificate.Load(a.cfg.ClientFile()) == nil {
		a.log.Warn("rotateCertificates has no effect: the client certificate is not one that this node has asked for",
			zap.String("expected", a.cfg.ClientFile()))
		return
	}
	k := &certificate.Keeper{API: requests{a.api}, Want: certificate.Client(a.cfg.Hostname), File: a.cfg.ClientFile(), Log: a.log.Named("certificate")}
	g.Add("client certificate", k.Run)
}

// serve adds the server of port 10250. One that must first be given a certificate listens when it has it.
func (a *agent) serve(g *daemon.Group, h http.Handler) error {
	k := &a.cfg.Kubelet
	log := a.log.Named("serve")
	address := net.JoinHostPort(k.Address, fmt.Sprint(k.Port))
	files := mtls.Files{Cert: k.TLSCertFile, Key: k.TLSPrivateKeyFile, CA: k.Authentication.X509.ClientCAFile}
	if !a.cfg.ServingRequested() {
		tls, err := mtls.Server(files)
		if err != nil {
			return &daemon.ConfigError{Err: err}
		}
		l, err := daemon.Listen(address)
		if err != nil {
			return err
		}
		g.Add("serve", func(ctx context.Context) error { return daemon.Serve(ctx, l, tls, h, log) })
		return nil
	}
	have := make(chan struct{})
	keeper := &certificate.Keeper{API: requests{a.api}, Want: certificate.Serving(a.cfg.Hostname, a.ips), File: a.cfg.ServingFile(),
		Have: sync.OnceFunc(func() { close(have) }), Log: a.log.Named("certificate")}
	g.Add("serving certificate", keeper.Run)
	g.Add("serve", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-have:
		}
		tls, err := mtls.Server(files)
		if err != nil {
			return err
		}
		l, err := daemon.Listen(address)
		if err != nil {
			return err
		}
		return daemon.Serve(ctx, l, tls, h, log)
	})
	return nil
}

type requests struct{ api *client.API }

// Create implements certificate.API.
func (r requests) Create(ctx context.Context, o *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	return client.CertificateSigningRequests.Create(ctx, r.api, o)
}

// Get implements certificate.API.
func (r requests) Get(ctx context.Context, name string) (*certificatesv1.CertificateSigningRequest, error) {
	return client.CertificateSigningRequests.Get(ctx, r.api, "", name)
}
