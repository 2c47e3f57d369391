package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hardway/dns/chain"
	"hardway/dns/chain/cache"
	"hardway/dns/chain/forward"
	"hardway/dns/config"
	"hardway/dns/corefile"
	"hardway/dns/zone"
)

// answers is what is answered and how: the chain, built anew when the file changes.
type answers struct {
	cfg      *config.Config
	names    *names
	resolver *chain.Resolver
	loop     *chain.Loop
	metrics  *forward.Metrics
	failed   prometheus.Counter
	pods     string // how pod records were answered at the start
	log      *zap.Logger

	mu       sync.Mutex
	settings corefile.Settings // guarded by mu
	routes   forward.Routes    // guarded by mu
	modified time.Time         // of the file; guarded by mu
	changed  chan struct{}     // holds one token after new routes
}

// newAnswers reads the configuration for the first time. Addresses that the file names replace those of cfg.
func newAnswers(cfg *config.Config, names *names, reg prometheus.Registerer, log *zap.Logger) (*answers, error) {
	label := "dns://" + cfg.Address().String()
	a := &answers{cfg: cfg, names: names, loop: chain.NewLoop(), metrics: forward.NewMetrics(reg), log: log, changed: make(chan struct{}, 1),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "coredns_reload_failed_total", Help: "Counter of the number of failed reload attempts."})}
	reg.MustRegister(a.failed)
	a.resolver = &chain.Resolver{Zone: &names.zone, Setup: new(atomic.Pointer[chain.Setup]), Cache: cache.New(cfg.CacheSize, label, reg),
		Metrics: chain.NewMetrics(label, reg), Log: log}
	s, modified, err := a.read()
	if err != nil {
		return nil, err
	}
	a.pods, a.modified = s.Pods, modified
	cfg.HealthAddress, cfg.ReadyAddress = cmp.Or(s.Health, cfg.HealthAddress), cmp.Or(s.Ready, cfg.ReadyAddress)
	cfg.MetricsAddress = cmp.Or(s.Metrics, cfg.MetricsAddress)
	return a, a.apply(s)
}

// read reads the file, or takes what the flags say if there is none.
func (a *answers) read() (corefile.Settings, time.Time, error) {
	if a.cfg.File == "" {
		s := corefile.Default()
		to := a.cfg.Upstream
		if len(to) == 0 {
			to = []string{a.cfg.ResolvConf}
		}
		s.Forwards = []corefile.Forward{corefile.DefaultForward(".", to...)}
		return s, time.Time{}, nil
	}
	info, err := os.Stat(a.cfg.File)
	if err != nil {
		return corefile.Settings{}, time.Time{}, fmt.Errorf("read configuration: %w", err)
	}
	text, err := os.ReadFile(a.cfg.File)
	if err != nil {
		return corefile.Settings{}, time.Time{}, fmt.Errorf("read configuration: %w", err)
	}
	s, err := corefile.Parse(string(text), a.cfg.Domain)
	if err != nil {
		return s, info.ModTime(), fmt.Errorf("configuration %s: %w", a.cfg.File, err)
	}
	return s, info.ModTime(), nil
}

// apply builds the chain from settings and puts it in place of the one before.
func (a *answers) apply(s corefile.Settings) error {
	routes, err := a.forwards(s)
	if err != nil {
		return err
	}
	cluster := &chain.Cluster{Zone: &a.names.zone}
	plain := chain.Chain{cluster, a.loop, routes}
	cluster.Chase = plain
	setup := &chain.Setup{Cluster: cluster, Chain: plain, Cache: s.Cache, Queries: s.Queries, Errors: s.Errors}
	if s.Autopath {
		setup.Autopath = &chain.Autopath{Zone: &a.names.zone, Cluster: cluster, Search: search(a.cfg.ResolvConf), Next: plain}
		setup.Chain = append(chain.Chain{setup.Autopath}, plain...)
	}
	if s.Rate > 0 {
		setup.Limiter = chain.NewLimiter(s.Rate, s.Burst)
	}
	a.resolver.Cache.Resize(cmp.Or(s.Cache.Capacity, a.cfg.CacheSize))
	a.resolver.Setup.Store(setup)
	modes := map[string]zone.PodRecords{corefile.PodsInsecure: zone.PodsInsecure, corefile.PodsVerified: zone.PodsVerified, corefile.PodsOff: zone.PodsOff}
	a.names.say(zone.Options{TTL: s.TTL, Pods: modes[s.Pods]})

	a.mu.Lock()
	old := a.routes
	a.settings, a.routes = s, routes
	a.mu.Unlock()
	old.Close()
	select {
	case a.changed <- struct{}{}:
	default:
	}
	return nil
}

// forwards makes a handler for each forward line.
func (a *answers) forwards(s corefile.Settings) (forward.Routes, error) {
	own := func(at netip.AddrPort) bool { return at == a.cfg.Address() || at.Addr().String() == a.cfg.ClusterDNS }
	var routes forward.Routes
	for _, f := range s.Forwards {
		f.MaxConcurrent = cmp.Or(f.MaxConcurrent, a.cfg.MaxForward)
		o := forward.Options{Forward: f, Servers: forward.NewUpstream(f.To, own, a.log).Servers}
		if f.CA != "" {
			text, err := os.ReadFile(f.CA)
			if err != nil {
				return nil, fmt.Errorf("forward %s: read authorities: %w", f.Zone, err)
			}
			o.Roots = x509.NewCertPool()
			if !o.Roots.AppendCertsFromPEM(text) {
				return nil, fmt.Errorf("forward %s: %s has no certificate", f.Zone, f.CA)
			}
		}
		routes = append(routes, forward.New(o, a.metrics))
	}
	return routes, nil
}

// search are the further domains of this machine, which pods have at the end of their search path.
func search(path string) []string {
	file, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range file.Search {
		out = append(out, dns.CanonicalName(d))
	}
	return out
}

func (a *answers) lameduck() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settings.Lameduck
}

func (a *answers) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.routes.Close()
}

// follow reads the file again when it changes, until ctx ends. A file that is wrong is an error in the log; what was said before stays in force.
func (a *answers) follow(ctx context.Context) error {
	for {
		a.mu.Lock()
		wait := time.NewTimer(a.settings.Reload)
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
		if err := a.reload(); err != nil {
			a.failed.Inc()
			a.log.Error("keeping the configuration", zap.Error(err))
		}
	}
}

func (a *answers) reload() error {
	if a.cfg.File == "" {
		return nil
	}
	info, err := os.Stat(a.cfg.File)
	if err != nil || info.ModTime().Equal(a.modified) {
		return nil //nolint:nilerr // being replaced; if it is gone for good, what it said stays in force
	}
	a.modified = info.ModTime()
	s, _, err := a.read()
	if err != nil {
		return err
	}
	if s.Pods == corefile.PodsVerified && a.pods != corefile.PodsVerified {
		return errors.New("\"pods verified\" needs a restart: pods are not watched")
	}
	for _, address := range [][2]string{{s.Health, a.cfg.HealthAddress}, {s.Ready, a.cfg.ReadyAddress}, {s.Metrics, a.cfg.MetricsAddress}} {
		if address[0] != "" && address[0] != address[1] {
			return fmt.Errorf("to serve on %s needs a restart", address[0])
		}
	}
	if err := a.apply(s); err != nil {
		return err
	}
	a.log.Info("configuration read", zap.String("file", a.cfg.File))
	return nil
}

// loopEvery is how often the upstream servers are tested for leading back here, for their own settings may change.
const loopEvery = 5 * time.Minute

// checkLoop stops forwarding where the upstream servers lead back here, as long as they do.
func (a *answers) checkLoop(ctx context.Context) error {
	tick := time.NewTicker(loopEvery)
	defer tick.Stop()
	for {
		a.mu.Lock()
		routes := a.routes
		a.mu.Unlock()
		for _, f := range routes {
			f.SetLooped(false)
			// Whatever the answer is: what counts is whether the question comes back.
			_, err := f.Handle(ctx, a.loop.Question())
			if a.loop.Seen() {
				f.SetLooped(true)
				a.log.Error("names cannot be resolved: the upstream servers send our questions back to us", zap.String("zone", f.Zone()))
			} else if err != nil && ctx.Err() == nil {
				a.log.Debug("loop check", zap.String("zone", f.Zone()), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.changed:
		}
	}
}
