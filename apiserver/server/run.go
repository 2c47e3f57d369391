package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/version"

	"hardway/apiserver/allocate"
	"hardway/apiserver/apply"
	"hardway/apiserver/audit"
	"hardway/apiserver/config"
	"hardway/apiserver/crd"
	"hardway/apiserver/discovery"
	"hardway/apiserver/encryption"
	"hardway/apiserver/fairness"
	"hardway/apiserver/filter"
	"hardway/apiserver/kinds"
	"hardway/apiserver/openapi"
	"hardway/apiserver/proxy"
	"hardway/apiserver/registry"
	"hardway/apiserver/registry/bootstrap"
	"hardway/apiserver/serve"
	"hardway/apiserver/store"
	"hardway/shared/daemon"
	"hardway/shared/metrics"
	"hardway/shared/mtls"
	hardway "hardway/shared/version"
)

// Run serves until ctx ends. Bad files named in the configuration are a daemon.ConfigError.
func Run(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	start := time.Now()
	tlsConfig, err := mtls.Asking(mtls.Files{Cert: cfg.CertFile, Key: cfg.KeyFile})
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	access, err := newAccess(cfg)
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	var sealing *encryption.Encryption
	if cfg.EncryptionConfig != "" {
		if sealing, err = encryption.Open(cfg.EncryptionConfig); err != nil {
			return &daemon.ConfigError{Err: err}
		}
	}
	listener, err := daemon.Listen(net.JoinHostPort(cfg.BindAddress, fmt.Sprint(cfg.Port)))
	if err != nil {
		return err
	}
	defer listener.Close()
	ip, port, err := advertised(cfg.AdvertiseAddress, listener.Addr())
	if err != nil {
		return err
	}
	reg := metrics.New()
	kept, err := openStores(ctx, cfg, store.NewMetrics(reg, kinds.All()), log)
	if err != nil {
		return err
	}
	defer kept.stop()

	s := &server{cfg: cfg, log: log, kept: kept, access: access, encryption: sealing, reg: reg, health: daemon.NewHealth(), ip: ip, port: port}
	handler, err := s.build(ctx)
	if err != nil {
		return err
	}
	srv, err := httpServer(handler, tlsConfig, log)
	if err != nil {
		return err
	}
	return s.run(ctx, srv, listener, start)
}

// rereadKeys is how often the file with the keys is looked at.
const rereadKeys = 10 * time.Second

// server is the wired whole.
type server struct {
	cfg     *config.Config
	log     *zap.Logger
	kept    *kept
	access  *access
	auditor *audit.Auditor // nil: nothing is written down
	// encryption of what is stored; nil: none
	encryption *encryption.Encryption
	reg        *prometheus.Registry
	health     *daemon.Health
	ip         net.IP
	port       int

	set       *registry.Set
	documents *openapi.Server
	custom    *crd.Engine
	fair      *fairness.Follower // nil: off
	allocator *allocate.Allocator
	proxy     *proxy.Proxy
	bootstrap *bootstrap.Bootstrap
	stopping  atomic.Bool // /readyz fails
	draining  atomic.Bool // nothing new is taken
	ending    context.Context
	end       context.CancelFunc
}

// build makes the registries and the handler of all requests. Nothing runs yet.
func (s *server) build(ctx context.Context) (http.Handler, error) {
	all := kinds.All()
	if err := s.makeRegistries(all); err != nil {
		return nil, err
	}
	s.ending, s.end = context.WithCancel(context.WithoutCancel(ctx))
	address, _ := netip.AddrFromSlice(s.ip)
	cidr, err := netip.ParsePrefix(s.cfg.ServiceRange)
	if err != nil {
		return nil, &daemon.ConfigError{Err: fmt.Errorf("--service-cluster-ip-range: %w", err)}
	}
	s.bootstrap = bootstrap.New(bootstrap.Options{
		Set: s.set, Store: s.kept.Store, CIDRs: []netip.Prefix{cidr.Masked()}, Address: s.allocator.First(),
		Advertise: address.Unmap(), Port: s.port, Log: s.log, Versions: current(all),
		Trust: s.trust,
	})
	s.checks()
	if err := s.makeAuditor(); err != nil {
		return nil, err
	}
	apply.LimitCopies(10 * serve.MaxBody)
	connect, err := s.connections()
	if err != nil {
		return nil, err
	}
	s.documents = openapi.New(all)
	handlers, routes := serve.New(serve.Options{
		Kinds: all, Scheme: kinds.Scheme(), Registries: s.set,
		Discovery: discovery.New(all, s.reachedAt()),
		OpenAPI:   s.documents,
		Connect:   connect,
		Version:   versionInfo(),
		Health:    s.health, Debug: s.debug(),
		MinWatch: time.Duration(s.cfg.MinWatch) * time.Second,
		Judge:    s.access.judge(s.kept.ready),
		OpenID:   s.access.openID(net.JoinHostPort(s.ip.String(), fmt.Sprint(s.port))),
		Ending:   s.ending,
		Metrics:  serve.NewMetrics(s.reg),
		Log:      s.log,
	})
	s.custom = s.customKinds(handlers, all)
	gate, shares := s.makeGate()
	return filter.New(filter.Options{
		Gate: gate, Shares: shares,
		Audit: s.auditor,
		Log:   s.log, Metrics: filter.NewMetrics(s.reg, handlers.Known), Authorizer: s.access.authorizer, Authenticate: s.access.authenticator.Authenticate, Fail: serve.Fail,
		Draining: s.draining.Load, GoawayChance: s.cfg.GoawayChance,
		MaxReads: s.cfg.MaxReads, MaxWrites: s.cfg.MaxWrites, Timeout: s.cfg.RequestTimeout,
	}, routes), nil
}

// debug serves metrics, profiles and the state of etcd.
func (s *server) debug() http.Handler {
	s.reg.MustRegister(s.set.Metrics(), s.kept)
	mux := http.NewServeMux()
	mux.Handle("/", daemon.GuardedDebugMux(s.health, s.reg, open))
	mux.Handle("/metrics", promhttp.HandlerFor(append(s.kept.metrics, s.reg), promhttp.HandlerOpts{}))
	mux.HandleFunc(snapshotPath, s.serveSnapshot)
	mux.HandleFunc(spacePath, s.serveSpace)
	return mux
}

// checks are what /livez and /readyz look at.
func (s *server) checks() {
	s.health.Live("etcd", s.kept.ready)
	s.health.Ready("etcd-alarms", s.kept.alarms)
	s.health.Ready("caches", s.set.Ready)
	s.health.Ready("bootstrap", s.bootstrap.Check)
	s.health.Ready("access", s.access.ready)
	if s.encryption != nil {
		s.health.Ready("kms-providers", s.encryption.Ready)
	}
	s.health.Ready("shutdown", func(context.Context) error {
		if s.stopping.Load() {
			return fmt.Errorf("the server is stopping")
		}
		return nil
	})
}

// run runs all parts until ctx ends or one fails.
func (s *server) run(ctx context.Context, srv *http.Server, l net.Listener, start time.Time) error {
	defer s.end()
	defer s.proxy.Close()
	defer s.audit(ctx)()
	var g daemon.Group
	g.Add("etcd", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.kept.done:
			return fmt.Errorf("etcd has stopped")
		}
	})
	g.Add("caches", s.set.Run)
	g.Add("bootstrap", s.bootstrap.Run)
	g.Add("custom kinds", s.custom.Run)
	if s.fair != nil {
		g.Add("priority and fairness", s.shareOut)
	}
	g.Add("access", s.follow)
	g.Add("files", s.reloadFiles)
	if s.encryption != nil {
		g.Add("encryption", func(ctx context.Context) error {
			return s.encryption.Follow(ctx, rereadKeys, s.cfg.EncryptionReload, s.log)
		})
	}
	g.Add("allocator", s.repair)
	g.Add("watchdog", daemon.Watchdog(s.health))
	g.Add("api", func(ctx context.Context) error {
		return serveUntil(ctx, srv, l, stops{
			delay:    s.cfg.ShutdownDelay,
			unready:  func() { s.stopping.Store(true) },
			draining: func() { s.draining.Store(true); s.end() },
		})
	})
	g.Add("ready", func(ctx context.Context) error { return s.announce(ctx, l.Addr(), start) })
	return g.Run(ctx)
}

// announce tells the world when the server is ready, and where it is.
func (s *server) announce(ctx context.Context, address net.Addr, start time.Time) error {
	reach := address.String()
	if host, port, err := net.SplitHostPort(reach); err == nil && net.ParseIP(host).IsUnspecified() {
		reach = net.JoinHostPort(s.ip.String(), port)
	}
	if err := writeAddress(s.cfg.AddressFile, reach); err != nil {
		return err
	}
	s.log.Info("serving", zap.Stringer("address", address), zap.Duration("after", time.Since(start)))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.health.Check(ctx) != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	s.log.Info("ready", zap.Duration("after", time.Since(start)))
	daemon.NotifyReady()
	<-ctx.Done()
	return nil
}

func versionInfo() version.Info {
	return version.Info{
		Major: "1", Minor: "36", GitVersion: hardway.Kubernetes, GitCommit: hardway.Hardway, GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}
