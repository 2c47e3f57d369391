// Package server builds the name server out of its parts, starts them in order and stops them in reverse.
package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"hardway/dns/chain"
	"hardway/dns/chain/cache"
	"hardway/dns/chain/forward"
	"hardway/dns/config"
	"hardway/dns/publish"
	"hardway/dns/serve"
	"hardway/dns/state"
	"hardway/dns/zone"
	"hardway/shared/client"
	"hardway/shared/daemon"
	sharedmetrics "hardway/shared/metrics"
	"hardway/shared/version"
)

// Program is the daemon hardway-dns.
func Program() daemon.Program {
	cfg := config.Default()
	return daemon.Program{
		Name:  "hardway-dns",
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

// Run serves until ctx ends.
func Run(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	restConfig, err := client.Config(cfg.Kubeconfig, "hardway-dns")
	if err != nil {
		return err
	}
	return run(ctx, cfg, restConfig, log)
}

// run is Run with the connection given.
func run(ctx context.Context, cfg *config.Config, restConfig *rest.Config, log *zap.Logger) error {
	api, err := client.New(restConfig)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	reg := sharedmetrics.New()
	names := newNames(cfg.Domain, reg, log)
	resolver := newResolver(cfg, names, reg, log)
	server, err := serve.Listen(ctx, cfg.Address(), resolver.Resolver, log)
	if err != nil {
		return err
	}
	informers := client.NewInformers(api, log)
	tracker := state.NewTracker(informers)

	var g daemon.Group
	listen(ctx, &g, cfg, names, reg, log)
	g.Add("server", server.Run)
	g.Add("loop check", resolver.checkLoop)
	synced := make(chan struct{})
	g.Add("informers", informers.Run)
	var publisher *publish.Publisher
	if cfg.Publish {
		publisher = publish.New(api, informers, endpoint(cfg, server.Addr().Port()), log)
	}
	g.Add("names", func(ctx context.Context) error {
		if !informers.WaitForSync(ctx) {
			return nil
		}
		tracker.All()
		return names.follow(ctx, tracker, func() {
			log.Info("serving", zap.Stringer("address", server.Addr()), zap.String("domain", cfg.Domain), zap.Int("services", names.zone.Load().Len()))
			close(synced)
			daemon.NotifyReady()
		})
	})
	if publisher != nil {
		g.Add("publisher", func(ctx context.Context) error {
			select {
			case <-synced:
				return publisher.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		})
	}
	return g.Run(ctx)
}

// endpoint is what the server publishes.
func endpoint(cfg *config.Config, port uint16) publish.Endpoint {
	e := publish.Endpoint{Node: cfg.NodeName, Addr: netip.MustParseAddr(cfg.NodeIP), Port: port, ClusterDNS: netip.MustParseAddr(cfg.ClusterDNS)}
	if _, text, err := net.SplitHostPort(cfg.MetricsAddress); err == nil {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			e.Metrics = uint16(n)
		}
	}
	return e
}

// resolver is the chain with what belongs to it.
type resolver struct {
	*chain.Resolver
	loop    *chain.Loop
	forward *forward.Forward
	log     *zap.Logger
}

func newResolver(cfg *config.Config, names *names, reg prometheus.Registerer, log *zap.Logger) *resolver {
	label := "dns://" + cfg.Address().String()
	own := func(a netip.AddrPort) bool { return a == cfg.Address() || a.Addr().String() == cfg.ClusterDNS }
	upstream := forward.NewUpstream(cfg.Upstream, cfg.ResolvConf, own, log)
	r := &resolver{loop: chain.NewLoop(), forward: forward.New(upstream.Servers, cfg.MaxForward, reg), log: log}
	cluster := &chain.Cluster{Zone: &names.zone}
	handlers := chain.Chain{cluster, r.loop, r.forward}
	cluster.Chase = handlers
	r.Resolver = &chain.Resolver{Zone: &names.zone, Cluster: cluster, Chain: handlers, Cache: cache.New(cfg.CacheSize, label, reg),
		Metrics: chain.NewMetrics(label, reg), Log: log}
	return r
}

// loopEvery is how often the upstream servers are tested for leading back here, for their settings may change.
const loopEvery = 5 * time.Minute

// checkLoop stops forwarding while the upstream servers lead back here.
func (r *resolver) checkLoop(ctx context.Context) error {
	tick := time.NewTicker(loopEvery)
	defer tick.Stop()
	for {
		r.forward.SetLooped(false)
		// Whatever the answer is: what counts is whether the question comes back.
		_, err := r.forward.Handle(ctx, r.loop.Question())
		if r.loop.Seen() {
			r.forward.SetLooped(true)
			r.log.Error("names outside the cluster cannot be resolved: the upstream servers send our questions back to us")
		} else if err != nil && ctx.Err() == nil {
			r.log.Debug("loop check", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// names owns the zone.
type names struct {
	zone       atomic.Pointer[zone.Zone]
	programmed prometheus.Observer
	log        *zap.Logger
}

func newNames(domain string, reg prometheus.Registerer, log *zap.Logger) *names {
	programmed := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_kubernetes_dns_programming_duration_seconds",
		Help: "Histogram of the time (in seconds) it took to program a dns instance.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 20)},
		[]string{"service_kind"})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "coredns_build_info",
		Help: "A metric with a constant '1' value labeled by version, revision, and goversion from which CoreDNS was built."},
		[]string{"version", "revision", "goversion"})
	build.WithLabelValues("hardway-"+version.Hardway, "", "").Set(1)
	reg.MustRegister(programmed, build)
	n := &names{programmed: programmed.WithLabelValues("headless_with_selector"), log: log}
	n.zone.Store(zone.New(domain))
	return n
}

// follow brings changes into the zone until ctx ends: all that are queued at once, and none waits for more. It calls ready after the first.
func (n *names) follow(ctx context.Context, from *state.Tracker, ready func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-from.Ready():
		}
		started := time.Now()
		changes, triggers := from.Take()
		changes.Serial, changes.Synced = uint32(started.Unix()), true
		n.zone.Store(n.zone.Load().Update(changes))
		for _, t := range triggers {
			n.programmed.Observe(time.Since(t).Seconds())
		}
		n.log.Debug("names changed", zap.Int("services", len(changes.Services)), zap.Duration("took", time.Since(started)))
		if ready != nil {
			ready()
			ready = nil
		}
	}
}

// listen serves health, readiness and metrics. A port that is taken is an error in the log, not the end: answering names matters more.
func listen(ctx context.Context, g *daemon.Group, cfg *config.Config, names *names, reg *prometheus.Registry, log *zap.Logger) {
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "OK") }
	health, ready, metrics := http.NewServeMux(), http.NewServeMux(), http.NewServeMux()
	health.HandleFunc("/health", ok)
	ready.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		if !names.zone.Load().Synced {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprint(w, "kubernetes")
			return
		}
		ok(w, r)
	})
	metrics.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	for _, s := range []struct {
		name, address string
		handler       http.Handler
	}{{"health", cfg.HealthAddress, health}, {"ready", cfg.ReadyAddress, ready}, {"metrics", cfg.MetricsAddress, metrics}} {
		if s.address == "" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
		if err != nil {
			log.Error("not served: "+s.name, zap.Error(err))
			continue
		}
		g.Add(s.name, func(ctx context.Context) error {
			return daemon.Serve(ctx, l, nil, s.handler, log)
		})
	}
}
