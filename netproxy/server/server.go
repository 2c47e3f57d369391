// Package server builds the proxy out of its parts, starts them in order and stops them in reverse.
package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"hardway/netproxy/announce"
	"hardway/netproxy/config"
	"hardway/netproxy/conntrack"
	"hardway/netproxy/healthcheck"
	"hardway/netproxy/ingress"
	"hardway/netproxy/kernel"
	"hardway/netproxy/kernel/address"
	"hardway/netproxy/plan"
	"hardway/netproxy/policy"
	"hardway/netproxy/state"
	"hardway/shared/client"
	"hardway/shared/daemon"
	sharedmetrics "hardway/shared/metrics"
)

// Program is the daemon hardway-netproxy.
func Program() daemon.Program {
	cfg := config.Default()
	return daemon.Program{
		Name:  "hardway-netproxy",
		Flags: cfg.Flags,
		Validate: func() error {
			if err := cfg.Complete(); err != nil {
				return err
			}
			return cfg.Validate()
		},
		Run: func(ctx context.Context, log *zap.Logger) error { return Run(ctx, cfg, log) },
	}
}

// Run runs the proxy until ctx ends. The tables stay in the kernel, so services go on working; --cleanup removes them.
func Run(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	k, err := kernel.Open(0, kernel.Families())
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	if cfg.Cleanup {
		if err := k.Cleanup(); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
		log.Info("removed the nftables tables", zap.String("table", kernel.TableName))
		return nil
	}
	for _, w := range cfg.Warnings {
		log.Warn("configuration: " + w)
	}
	tune(cfg, log)
	flows, err := conntrack.Open(0)
	if err != nil {
		return err
	}
	defer flows.Close()
	on := node{kernel: k, flows: flows}
	if cfg.LoadBalancerLink != "" {
		link, err := address.Open(cfg.LoadBalancerLink)
		if err != nil {
			return fmt.Errorf("load balancer addresses: %w", err)
		}
		defer link.Close()
		on.link = link
	}
	restConfig, err := client.Config(cfg.Kubeconfig, "hardway-netproxy")
	if err != nil {
		return err
	}
	return serve(ctx, cfg, on, restConfig, log)
}

// node is what the proxy works on.
type node struct {
	kernel *kernel.Kernel
	flows  *conntrack.Cleaner
	link   announce.Link // nil: addresses of load balancers are not announced
}

// serve runs the parts of the proxy.
func serve(ctx context.Context, cfg *config.Config, on node, restConfig *rest.Config, log *zap.Logger) error {
	api, err := client.New(restConfig)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	reg := sharedmetrics.New()
	m := newMetrics(reg)
	proxy := healthcheck.NewProxy(2*cfg.SyncPeriod, time.Now, reg)
	informers := client.NewInformers(api, log)
	tracker := state.NewTracker(informers, cfg.NodeName, cfg.AllowExternalIPs, log)
	policies := state.NewPolicies(api, log)
	clean := newCleaner(on.flows, m, log)
	l := &loop{cfg: cfg, source: tracker, policies: policies, planner: plan.New(state.Node{Name: cfg.NodeName}), isolation: policy.New(cfg.NodeName), kernel: on.kernel, cleaner: clean, proxy: proxy,
		nodePorts: healthcheck.NewNodePorts(proxy, log), metrics: m, log: log}

	leases := client.NewInformers(api, log) // of their own: services do not wait for them
	if on.link != nil {
		l.announcer = announce.New(api, leases, cfg.NodeName, on.link, log)
	}

	var g daemon.Group
	if err := serveIngresses(&g, cfg, reg, log); err != nil {
		return err
	}
	if err := listen(&g, cfg, proxy, reg, log); err != nil {
		return err
	}
	alive := daemon.NewHealth()
	alive.Live("loop", l.pulse.check)
	g.Add("watchdog", daemon.Watchdog(alive))
	g.Add("informers", informers.Run)
	g.Add("policies", policies.Run)
	g.Add("conntrack", clean.run)
	if l.announcer != nil {
		g.Add("leases", leases.Run)
		g.Add("announcer", l.announcer.Run)
	}
	g.Add("loop", func(ctx context.Context) error {
		if !informers.WaitForSync(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-policies.Settled():
		}
		tracker.All()
		return l.run(ctx, func() {
			log.Info("serving", zap.String("node", cfg.NodeName), zap.Int("services", l.planner.Len()))
			daemon.NotifyReady()
		})
	})
	return g.Run(ctx)
}

// serveIngresses adds the part that serves them, where it was asked for.
func serveIngresses(g *daemon.Group, cfg *config.Config, reg *prometheus.Registry, log *zap.Logger) error {
	in := cfg.Ingress
	if in.Kubeconfig == "" {
		return nil
	}
	restConfig, err := client.Config(in.Kubeconfig, "hardway-ingress")
	if err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	api, err := client.New(restConfig)
	if err != nil {
		return fmt.Errorf("ingress: make client: %w", err)
	}
	namespace, name, _ := strings.Cut(in.Certificate, "/")
	p := ingress.New(api, ingress.Config{Node: cfg.NodeName, HTTP: in.HTTPAddress, HTTPS: in.HTTPSAddress, AccessLog: in.AccessLog,
		Certificate: state.Name{Namespace: namespace, Name: name}}, reg, log.Named("ingress"))
	g.Add("ingress", p.Run)
	return nil
}

// listen opens the ports at once, so that one that is taken is a failure to start.
func listen(g *daemon.Group, cfg *config.Config, proxy *healthcheck.Proxy, reg *prometheus.Registry, log *zap.Logger) error {
	health := http.NewServeMux()
	health.HandleFunc("/healthz", proxy.Healthz)
	health.HandleFunc("/livez", proxy.Livez)

	checks := daemon.NewHealth()
	checks.Live("sync", func(context.Context) error {
		if !proxy.Healthy() {
			return fmt.Errorf("nftables is behind the API")
		}
		return nil
	})
	debug := http.NewServeMux()
	debug.Handle("/", daemon.DebugMux(checks, reg))
	debug.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "nftables") })

	for _, s := range []struct {
		name, address string
		handler       http.Handler
	}{{"healthz", cfg.HealthzAddress, health}, {"metrics", cfg.MetricsAddress, debug}} {
		if s.address == "" {
			continue
		}
		l, err := daemon.Listen(s.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", s.name, err)
		}
		g.Add(s.name, func(ctx context.Context) error { return daemon.Serve(ctx, l, nil, s.handler, log) })
	}
	return nil
}

// tune applies the kernel settings that were asked for. A machine that refuses one is still served.
func tune(cfg *config.Config, log *zap.Logger) {
	for _, err := range conntrack.Tune(conntrack.Settings(cfg.Conntrack)) {
		log.Warn("conntrack setting", zap.Error(err))
	}
	if cfg.OOMScoreAdj != nil {
		if err := os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, *cfg.OOMScoreAdj), 0); err != nil {
			log.Warn("oomScoreAdj", zap.Error(err))
		}
	}
}
