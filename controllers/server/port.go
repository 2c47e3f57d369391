package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hardway/controllers/control"
	"hardway/shared/daemon"
	"hardway/shared/mtls"
)

// standing is where the daemon stands, for health and metrics.
type standing struct {
	synced  atomic.Bool // the caches are filled
	leading atomic.Bool
}

// servePort opens the port for health, metrics and debugging; nil when the configuration wants none.
func (t *team) servePort(health *daemon.Health) (func(context.Context) error, error) {
	cfg := t.env.Config
	if cfg.SecurePort == 0 {
		return nil, nil
	}
	health.Ready("caches", func(context.Context) error {
		if !t.synced.Load() {
			return errors.New("the caches are not filled yet")
		}
		return nil
	})
	for _, m := range t.members {
		health.Live(m.Name, func(context.Context) error { return m.activity.Health(time.Now()) })
	}
	t.env.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "leader_election_master_status", Help: "Whether this process leads: 1, or stands by: 0.",
		ConstLabels: prometheus.Labels{"name": cfg.ResourceName},
	}, func() float64 {
		if t.leading.Load() {
			return 1
		}
		return 0
	}))
	tlsConfig, err := mtls.ServerOrSelfSigned(mtls.Files{Cert: cfg.CertFile, Key: cfg.KeyFile, CA: cfg.ClientCAFile})
	if err != nil {
		return nil, &daemon.ConfigError{Err: err}
	}
	l, err := daemon.Listen(address(cfg))
	if err != nil {
		return nil, err
	}
	mux := daemon.DebugMux(health, t.env.Metrics)
	mux.Handle("/debug/controllers", daemon.Trusted(http.HandlerFunc(t.list)))
	return func(ctx context.Context) error { return daemon.Serve(ctx, l, tlsConfig, mux, t.env.Log) }, nil
}

// list writes the controllers of this process and what they do.
func (t *team) list(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		Name    string   `json:"name"`
		Reads   []string `json:"reads"`
		Writes  []string `json:"writes"`
		Running bool     `json:"running"`
		Reason  string   `json:"reason,omitempty"` // why it does not run

		Waiting     int              `json:"waiting"` // objects in its queues
		LastFailure *control.Failure `json:"lastFailure,omitempty"`
	}
	rows := make([]row, 0, len(t.members))
	for _, m := range t.members {
		r := row{Name: m.Name, Reads: m.Reads, Writes: m.Writes, Running: m.skip == "" && t.leading.Load(), Reason: m.skip,
			Waiting: m.activity.Waiting(), LastFailure: m.activity.LastFailure()}
		if m.skip == "" && !r.Running {
			r.Reason = "another process leads"
		}
		rows = append(rows, r)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(rows) //nolint:errcheck // the client went away
}
