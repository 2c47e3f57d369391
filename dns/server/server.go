// Package server builds the name server out of its parts, starts them in order and stops them in reverse.
package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"hardway/dns/config"
	"hardway/dns/corefile"
	"hardway/dns/publish"
	"hardway/dns/serve"
	"hardway/dns/state"
	"hardway/shared/client"
	"hardway/shared/daemon"
	sharedmetrics "hardway/shared/metrics"
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
	answers, err := newAnswers(cfg, names, reg, log)
	if err != nil {
		return err
	}
	defer answers.close()
	server, err := serve.Listen(ctx, cfg.Address(), answers.resolver, log)
	if err != nil {
		return err
	}
	informers := client.NewInformers(api, log)
	tracker := state.NewTracker(informers, answers.pods == corefile.PodsVerified)

	var g daemon.Group
	listen(ctx, &g, cfg, names, reg, log)
	g.Add("server", server.Run)
	alive := daemon.NewHealth()
	alive.Live("answers", func(ctx context.Context) error { return answered(ctx, server.Addr(), cfg.Domain) })
	g.Add("watchdog", daemon.Watchdog(alive))
	g.Add("loop check", answers.checkLoop)
	g.Add("configuration", answers.follow)
	synced := make(chan struct{})
	g.Add("informers", informers.Run)
	var publisher *publish.Publisher
	if cfg.Publish {
		publisher = publish.New(api, informers, endpoint(cfg, server.Addr().Port(), answers.lameduck), log)
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
func endpoint(cfg *config.Config, port uint16, linger func() time.Duration) publish.Endpoint {
	e := publish.Endpoint{Linger: linger, Node: cfg.NodeName, Addr: netip.MustParseAddr(cfg.NodeIP), Port: port, ClusterDNS: netip.MustParseAddr(cfg.ClusterDNS)}
	if _, text, err := net.SplitHostPort(cfg.MetricsAddress); err == nil {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			e.Metrics = uint16(n)
		}
	}
	return e
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
