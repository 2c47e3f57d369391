// Package server builds the scheduler from its parts and runs it: watches feed the scheduling loop, the loop decides,
// the binder tells the API.
package server

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"go.uber.org/zap"

	"hardway/scheduler/bind"
	"hardway/scheduler/config"
	"hardway/scheduler/extender"
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
	"hardway/scheduler/snapshot"
	"hardway/shared/client"
	"hardway/shared/daemon"
	sharedmetrics "hardway/shared/metrics"
	"hardway/shared/mtls"
	"hardway/shared/reconcile"
)

// Program is the daemon hardway-scheduler.
func Program() daemon.Program {
	cfg := config.Default()
	return daemon.Program{
		Name:     "hardway-scheduler",
		Flags:    cfg.Flags,
		Validate: cfg.Complete,
		Run:      func(ctx context.Context, log *zap.Logger) error { return Run(ctx, cfg, log) },
	}
}

// Run runs the scheduler until ctx ends.
func Run(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	rest, err := client.Config(cfg.Kubeconfig, "hardway-scheduler")
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	api, err := client.New(rest)
	if err != nil {
		return err
	}
	if cfg.Sampling {
		log.Warn("percentageOfNodesToScore has no effect here: every node is looked at")
	}
	var extenders []*extender.Extender
	for i := range cfg.Extenders {
		e, err := extender.New(cfg.Extenders[i], log.Named("extender"))
		if err != nil {
			return &daemon.ConfigError{Err: fmt.Errorf("extenders[%d].%w", i, err)}
		}
		extenders = append(extenders, e)
	}
	reg := sharedmetrics.New()
	events := client.NewRecorder(api, "default-scheduler", "")
	cluster := snapshot.New()
	sources := newSources(api, log.Named("watch"))
	sources.whole = len(extenders) > 0
	var profiles []*framework.Profile
	needs := &plugins.Needs{Columns: cluster.Columns, API: api, Budgets: sources.budgetsIn, Writer: volumes{api}, Devices: cluster.View.Devices, Claims: claims{api}, Ignored: extender.Managed(cfg.Extenders)}
	if len(extenders) > 0 {
		needs.Consult = func(p *framework.Pod, ways []*framework.Eviction) ([]*framework.Eviction, error) {
			return extender.Preempt(ctx, extenders, p, ways, cluster.PodsOn)
		}
	}
	for i := range cfg.Profiles {
		p, err := plugins.New(&cfg.Profiles[i], needs)
		if err != nil {
			return &daemon.ConfigError{Err: fmt.Errorf("profiles[%d]: %w", i, err)}
		}
		if len(extenders) > 0 {
			p.Bind = extender.Binding{Otherwise: p.Bind, Extenders: extenders}
			p.Wakes[extender.Name] = extender.Wakes{}
		}
		profiles = append(profiles, p)
	}
	binder := bind.New(api, events, cfg.Fresh(), log.Named("bind"))
	metrics := newMetrics(reg, events.Dropped, binder.UnderWay)
	binder.Observe = metrics.Point
	loop := newLoop(profiles, cluster, binder, cfg.Queue, metrics, log.Named("loop"))
	loop.extenders = extenders
	reg.MustRegister(gauges{loop})

	sources.open(ctx, loop)

	health := daemon.NewHealth()
	health.Ready("informers", loop.ready)
	var g daemon.Group
	g.Add("watchdog", daemon.Watchdog(health))
	if cfg.SecurePort != 0 {
		mux := daemon.DebugMux(health, reg)
		mux.Handle("GET /debug/pods/{namespace}/{name}", daemon.Trusted(http.HandlerFunc(loop.explain)))
		serve, err := debugServer(cfg, mux, log)
		if err != nil {
			return err
		}
		g.Add("debug server", serve)
	}
	g.Add("events", events.Run)
	g.Add("watches", sources.run)
	g.Add("loop", loop.run)
	g.Add("leadership", func(ctx context.Context) error {
		if !sources.must.WaitForSync(ctx) {
			return ctx.Err()
		}
		daemon.NotifyReady()
		return lead(ctx, cfg, api, log, loop.lead)
	})
	return g.Run(ctx)
}

// lead runs work, as the elected leader if that is asked for.
func lead(ctx context.Context, cfg *config.Config, api *client.API, log *zap.Logger, work func(context.Context) error) error {
	if !cfg.LeaderElect {
		return work(ctx)
	}
	e := cfg.Election
	var err error
	if e.Identity, err = reconcile.Identity(cfg.SecurePort); err != nil {
		return err
	}
	e.API, e.ReleaseOnExit = api, true
	return reconcile.Lead(ctx, e, log, work)
}

func debugServer(cfg *config.Config, mux http.Handler, log *zap.Logger) (func(context.Context) error, error) {
	tls, err := mtls.ServerOrSelfSigned(mtls.Files{Cert: cfg.TLSCert, Key: cfg.TLSKey, CA: cfg.ClientCA})
	if err != nil {
		return nil, &daemon.ConfigError{Err: err}
	}
	l, err := daemon.Listen(net.JoinHostPort(cfg.BindAddress, fmt.Sprint(cfg.SecurePort)))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return daemon.Serve(ctx, l, tls, mux, log) }, nil
}
