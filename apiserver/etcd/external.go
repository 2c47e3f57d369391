package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// External says how to reach an external etcd.
type External struct {
	Endpoints []string      // URLs, or host:port
	TLS       TLS           // the client's certificate and the server's CA; empty for http URLs
	Timeout   time.Duration // of the first answer; default 20 s
	Log       *zap.Logger
}

// How long a silent connection may stay unnoticed: a broken path is found in some 5 s instead of minutes.
const (
	dialTimeout      = 20 * time.Second
	keepAliveTime    = 3 * time.Second
	keepAliveTimeout = 2 * time.Second
)

// Dial connects to an external etcd and checks that it answers. It fails when no endpoint does before ctx ends or the
// timeout passes. The caller closes the client.
func Dial(ctx context.Context, o External) (*clientv3.Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("connect to etcd: no endpoints")
	}
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	tlsConfig, err := o.TLS.client()
	if err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            o.Endpoints,
		TLS:                  tlsConfig,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		PermitWithoutStream:  true,
		MaxCallSendMsgSize:   16 << 20,
		MaxCallRecvMsgSize:   1 << 30,
		Logger:               quiet(log),
		DialOptions:          []grpc.DialOption{grpc.WithUserAgent("hardway-apiserver")},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %v: %w", o.Endpoints, err)
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = dialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := c.Get(ctx, "\x00", clientv3.WithCountOnly()); err != nil {
		return nil, fmt.Errorf("connect to etcd %v: %w", o.Endpoints, errors.Join(err, c.Close()))
	}
	return c, nil
}

// client makes a TLS config, nil when no files are named.
func (t TLS) client() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	return transport.TLSInfo{CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA}.ClientConfig()
}
