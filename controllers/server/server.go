// Package server builds the controllers daemon from its table and configuration, and starts and stops its parts in
// order: the caches, the recorder of Events, the controllers behind their Lease, and the port for health and metrics.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"go.uber.org/zap"

	"hardway/controllers/config"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/daemon"
	"hardway/shared/metrics"
	"hardway/shared/reconcile"
)

// Program is the daemon.
func Program(table []control.Controller) daemon.Program {
	cfg := config.Default()
	return daemon.Program{
		Name:  "hardway-controllers",
		Flags: cfg.Flags,
		Validate: func() error {
			_, err := control.Choose(table, cfg.Controllers)
			return errors.Join(cfg.Validate(), err)
		},
		Run: func(ctx context.Context, log *zap.Logger) error { return Run(ctx, cfg, table, log) },
	}
}

// Run works until ctx ends or a part fails.
func Run(ctx context.Context, cfg config.Config, table []control.Controller, log *zap.Logger) error {
	restConfig, err := client.Config(cfg.Kubeconfig, "hardway-controllers")
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	api, err := client.New(restConfig)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	env := control.Env{
		Config: cfg, API: api, Log: log, Metrics: metrics.New(),
		Informers: client.NewInformers(api, log), Events: client.NewRecorder(api, "hardway-controllers", hostname()),
	}
	served, err := askServed(ctx, api, log)
	if err != nil || ctx.Err() != nil {
		return err
	}
	team, err := assemble(env, table, served)
	if err != nil {
		return err
	}
	health := daemon.NewHealth()
	var parts daemon.Group
	port, err := team.servePort(health)
	if err != nil {
		return err
	}
	if port != nil {
		parts.Add("port", port)
	}
	parts.Add("events", env.Events.Run)
	parts.Add("caches", env.Informers.Run)
	parts.Add("controllers", team.run)
	parts.Add("watchdog", daemon.Watchdog(health))
	return parts.Run(ctx)
}

// team is all controllers of this process.
type team struct {
	env     control.Env
	members []member
	standing
}

type member struct {
	control.Controller
	runner   control.Runner
	activity *control.Activity
	skip     string // why it does not run
}

// assemble makes the controllers that were chosen and that the configuration allows.
func assemble(env control.Env, table []control.Controller, served map[string]bool) (*team, error) {
	chosen, err := control.Choose(table, env.Config.Controllers)
	if err != nil {
		return nil, &daemon.ConfigError{Err: err}
	}
	t := &team{env: env}
	for _, c := range chosen {
		m := member{Controller: c}
		var own control.Env
		own, m.activity = env.Noted()
		if env.Config.OwnAccounts && c.Account != "" {
			if own, err = own.As(c.Account); err != nil {
				return nil, err
			}
		}
		m.skip = lacking(c.Reads, served)
		if m.skip == "" && c.Needs != nil {
			m.skip = c.Needs(env.Config)
		}
		if m.skip != "" {
			env.Log.Warn("controller does not run", zap.String("controller", c.Name), zap.String("reason", m.skip))
		} else if m.runner, err = c.New(own); err != nil {
			return nil, &daemon.ConfigError{Err: fmt.Errorf("make controller %s: %w", c.Name, err)}
		}
		t.members = append(t.members, m)
	}
	return t, nil
}

// run fills the caches and then works: always, or while holding the Lease.
func (t *team) run(ctx context.Context) error {
	if !t.env.Informers.WaitForSync(ctx) {
		return nil
	}
	t.synced.Store(true)
	t.env.Log.Info("caches are filled")
	daemon.NotifyReady()
	cfg := t.env.Config
	if !cfg.LeaderElect {
		return t.work(ctx)
	}
	identity, err := reconcile.Identity(cfg.SecurePort)
	if err != nil {
		return err
	}
	return reconcile.Lead(ctx, reconcile.Election{
		API: t.env.API, Namespace: cfg.ResourceNamespace, Name: cfg.ResourceName, Identity: identity,
		Lease: cfg.LeaseDuration, Renew: cfg.RenewDeadline, Retry: cfg.RetryPeriod, ReleaseOnExit: true,
	}, t.env.Log, t.work)
}

// work runs all controllers until ctx ends. One that fails ends all: half a team would be worse than a restart.
func (t *team) work(ctx context.Context) error {
	t.leading.Store(true)
	defer t.leading.Store(false)
	var parts daemon.Group
	for _, m := range t.members {
		if m.runner != nil {
			parts.Add(m.Name, m.runner.Run)
		}
	}
	return parts.Run(ctx)
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func address(cfg config.Config) string {
	return net.JoinHostPort(cfg.BindAddress, strconv.Itoa(cfg.SecurePort))
}
