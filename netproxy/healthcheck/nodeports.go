package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"hardway/netproxy/plan"
)

// NodePorts serves the health check node ports of services. It is safe for concurrent use.
type NodePorts struct {
	proxy *Proxy
	log   *zap.Logger

	mu    sync.Mutex
	ports map[uint16]*nodePort // guarded by mu
	wg    sync.WaitGroup
}

type nodePort struct {
	health plan.Health // guarded by NodePorts.mu
	server *http.Server
}

// NewNodePorts serves no port yet.
func NewNodePorts(proxy *Proxy, log *zap.Logger) *NodePorts {
	return &NodePorts{proxy: proxy, log: log, ports: map[uint16]*nodePort{}}
}

// Set opens, changes and closes ports so that these are served. A port that cannot be opened is logged and tried again with the next Set.
func (n *NodePorts) Set(ctx context.Context, want []plan.Health) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wanted := make(map[uint16]bool, len(want))
	for _, h := range want {
		wanted[h.Port] = true
		if p, ok := n.ports[h.Port]; ok {
			p.health = h
			continue
		}
		if err := n.open(ctx, h); err != nil {
			n.log.Warn("health check node port is not served", zap.String("namespace", h.Service.Namespace), zap.String("name", h.Service.Name), zap.Error(err))
		}
	}
	for port, p := range n.ports {
		if !wanted[port] {
			_ = p.server.Close()
			delete(n.ports, port)
		}
	}
}

// Close closes all ports and waits for their servers.
func (n *NodePorts) Close() {
	n.Set(context.Background(), nil)
	n.wg.Wait()
}

// open needs mu.
func (n *NodePorts) open(ctx context.Context, h plan.Health) error {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", fmt.Sprintf(":%d", h.Port))
	if err != nil {
		return fmt.Errorf("listen on health check node port %d: %w", h.Port, err)
	}
	p := &nodePort{health: h}
	p.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n.mu.Lock()
			h := p.health
			n.mu.Unlock()
			n.answer(w, h)
		})}
	n.ports[h.Port] = p
	n.wg.Go(func() {
		if err := p.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("health check node port stopped", zap.Error(err))
		}
	})
	return nil
}

// answer has upstream's body. 503 makes a load balancer send clients to nodes that have endpoints.
func (n *NodePorts) answer(w http.ResponseWriter, h plan.Health) {
	type service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	healthy := n.proxy.Healthy()
	code := http.StatusOK
	if h.Local == 0 || !healthy {
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", fmt.Sprint(h.Local))
	write(w, code, struct {
		Service             service `json:"service"`
		LocalEndpoints      int     `json:"localEndpoints"`
		ServiceProxyHealthy bool    `json:"serviceProxyHealthy"`
	}{service{h.Service.Namespace, h.Service.Name}, h.Local, healthy})
}
