package client

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// halfOpen is how long sent data may go unacknowledged before a connection counts as dead: well under the time a
// node's lease lives.
const halfOpen = 6 * time.Second

// Config reads a kubeconfig file and returns the settings of a daemon's connection: protobuf, no client-side rate
// limit (the server has its own), and dead connections noticed within seconds. An empty path means the cluster that
// this process runs in, as a pod.
func Config(kubeconfig, userAgent string) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{}).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %q: %w", kubeconfig, err)
	}
	return Tune(cfg, userAgent), nil
}

// Tune sets on cfg what Config promises.
func Tune(cfg *rest.Config, userAgent string) *rest.Config {
	cfg.UserAgent = filepath.Base(os.Args[0]) + "/" + userAgent
	if userAgent != "" {
		cfg.UserAgent = userAgent
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 5 * time.Second, Control: limitUnacknowledged}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	return cfg
}

// limitUnacknowledged sets TCP_USER_TIMEOUT, so that a peer that vanished without a word is noticed.
func limitUnacknowledged(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(halfOpen.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
