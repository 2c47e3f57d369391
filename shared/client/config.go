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
)

// halfOpen is how long sent data may go unacknowledged before a connection counts as dead: well under the time a
// node's lease lives.
const halfOpen = 6 * time.Second

// silence is how long a connection may be silent before the other side is asked whether it is still there, and how long
// it has to answer. A load balancer in between keeps its half of a connection up when the server behind it has vanished,
// so TCP alone would not notice.
var silence = map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "5", "HTTP2_PING_TIMEOUT_SECONDS": "2"}

// pingEarly sets silence for all connections of this process, unless somebody else has: the client library takes these
// settings from nowhere but the environment, and its own are 30 and 15 seconds.
func pingEarly() {
	for name, seconds := range silence {
		if os.Getenv(name) == "" {
			_ = os.Setenv(name, seconds) // names and values are good
		}
	}
}

// Config reads a kubeconfig file and returns the settings of a daemon's connection: protobuf, no client-side rate
// limit (the server has its own), and dead connections noticed within seconds. An empty path means the cluster that
// this process runs in, as a pod. A certificate or CA that is renewed, in the file or in one that it names, is used from
// the next request on; other changes of the file need a restart.
func Config(kubeconfig, userAgent string) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = readKubeconfig(kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %q: %w", kubeconfig, err)
	}
	Tune(cfg, userAgent)
	if kubeconfig != "" {
		if err := renew(cfg, kubeconfig); err != nil {
			return nil, fmt.Errorf("kubeconfig %q: %w", kubeconfig, err)
		}
	}
	return cfg, nil
}

// Tune sets on cfg what Config promises.
func Tune(cfg *rest.Config, userAgent string) *rest.Config {
	pingEarly()
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
