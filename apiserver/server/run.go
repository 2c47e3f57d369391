package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/version"

	"hardway/apiserver/allocate"
	"hardway/apiserver/apply"
	"hardway/apiserver/audit"
	"hardway/apiserver/config"
	"hardway/apiserver/discovery"
	"hardway/apiserver/encryption"
	"hardway/apiserver/etcd"
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
	kept, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer kept.stop()

	s := &server{cfg: cfg, log: log, kept: kept, access: access, encryption: sealing, reg: metrics.New(), health: daemon.NewHealth(), ip: ip, port: port}
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
	allocator *allocate.Allocator
	proxy     *proxy.Proxy
	bootstrap *bootstrap.Bootstrap
	stopping  atomic.Bool
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
		Advertise: address.Unmap(), Port: s.port, Log: s.log,
	})
	s.checks()
	debug := daemon.GuardedDebugMux(s.health, s.reg, open)
	debug.HandleFunc(snapshotPath, s.serveSnapshot)
	debug.HandleFunc(spacePath, s.serveSpace)
	if err := s.makeAuditor(); err != nil {
		return nil, err
	}
	apply.LimitCopies(10 * serve.MaxBody)
	connect, err := s.connections()
	if err != nil {
		return nil, err
	}
	handlers, routes := serve.New(serve.Options{
		Kinds: all, Scheme: kinds.Scheme(), Registries: s.set,
		Discovery: discovery.New(all, net.JoinHostPort(s.ip.String(), fmt.Sprint(s.port))),
		OpenAPI:   openapi.New(all),
		Connect:   connect,
		Version:   versionInfo(),
		Health:    s.health, Debug: debug,
		MinWatch: time.Duration(s.cfg.MinWatch) * time.Second,
		Judge:    s.access.judge(),
		OpenID:   s.access.openID(net.JoinHostPort(s.ip.String(), fmt.Sprint(s.port))),
		Ending:   s.ending,
		Log:      s.log,
	})
	return filter.New(filter.Options{
		Audit: s.auditor,
		Log:   s.log, Metrics: filter.NewMetrics(s.reg, handlers.Known), Authorizer: s.access.authorizer, Authenticate: s.access.authenticator.Authenticate, Fail: serve.Fail,
		MaxReads: s.cfg.MaxReads, MaxWrites: s.cfg.MaxWrites, Timeout: s.cfg.RequestTimeout,
	}, routes), nil
}

// checks are what /livez and /readyz look at.
func (s *server) checks() {
	s.health.Live("etcd", s.kept.ready)
	s.health.Ready("etcd-alarms", s.kept.alarms)
	s.health.Ready("caches", s.set.Ready)
	s.health.Ready("bootstrap", s.bootstrap.Check)
	s.health.Ready("access", s.access.ready)
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
	g.Add("access", s.follow)
	if s.encryption != nil && s.cfg.EncryptionReload {
		g.Add("encryption", func(ctx context.Context) error { return s.encryption.Follow(ctx, rereadKeys, s.log) })
	}
	g.Add("allocator", s.repair)
	g.Add("watchdog", daemon.Watchdog(s.health))
	g.Add("api", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() {
			s.stopping.Store(true)
			s.end()
		})
		defer stop()
		return serveUntil(ctx, srv, l)
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

// kept is the opened store.
type kept struct {
	*store.Store
	ready    func(context.Context) error
	space    func(context.Context) (etcd.Space, error)
	snapshot func(context.Context) (io.ReadCloser, error)
	done     <-chan struct{}
	stop     func()
}

// alarms is a readiness check: while etcd has raised an alarm, it refuses to write.
func (k *kept) alarms(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	space, err := k.space(ctx)
	if err != nil {
		return err
	}
	return space.Err()
}

// openStore starts the embedded etcd, or connects to an external one.
func openStore(ctx context.Context, cfg *config.Config, log *zap.Logger) (*kept, error) {
	e := cfg.Etcd
	if len(e.Servers) > 0 {
		client, err := etcd.Dial(ctx, etcd.External{Endpoints: e.Servers, TLS: etcdFiles(e), Log: log.Named("etcd")})
		if err != nil {
			return nil, err
		}
		st := store.New(client, store.Options{Prefix: e.Prefix})
		return &kept{
			Store: st, ready: answers(st),
			space:    func(ctx context.Context) (etcd.Space, error) { return etcd.SpaceOf(ctx, client) },
			snapshot: func(ctx context.Context) (io.ReadCloser, error) { return etcd.Snapshot(ctx, client) },
			done:     make(chan struct{}), stop: func() { client.Close() }, //nolint:errcheck // nothing is left to lose
		}, nil
	}
	member, err := etcd.Start(ctx, memberOptions(e, log.Named("etcd")))
	if err != nil {
		return nil, err
	}
	return &kept{
		Store: store.New(member.Client(), store.Options{Prefix: e.Prefix, Revision: member.Revision(), Full: member.Full}),
		ready: member.Ready, space: member.Space,
		snapshot: func(ctx context.Context) (io.ReadCloser, error) { return etcd.Snapshot(ctx, member.Client()) },
		done:     member.Done(), stop: member.Stop,
	}, nil
}

func etcdFiles(e config.Etcd) etcd.TLS { return etcd.TLS{Cert: e.Cert, Key: e.Key, CA: e.CA} }

func memberOptions(e config.Etcd, log *zap.Logger) etcd.Options {
	return etcd.Options{
		DataDir: e.DataDir, Name: e.Name, ListenClient: e.ListenClient, ListenPeer: e.ListenPeer, AdvertisePeer: e.AdvertisePeer,
		InitialCluster: e.InitialCluster, Join: e.InitialState == "existing", Token: e.ClusterToken, ClientTLS: etcdFiles(e), PeerTLS: etcdFiles(e),
		Quota: e.Quota, Log: log,
	}
}

// answers is the check of an external etcd.
func answers(st *store.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := st.Revision(ctx)
		return err
	}
}

func versionInfo() version.Info {
	return version.Info{
		Major: "1", Minor: "36", GitVersion: hardway.Kubernetes, GitCommit: hardway.Hardway, GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}
