package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// Options of the embedded member. Only DataDir is needed.
type Options struct {
	DataDir string

	// Name of this member among others. Default "hardway".
	Name string
	// ListenClient and ListenPeer are URLs to listen on, none by default.
	ListenClient, ListenPeer []string
	// AdvertiseClient and AdvertisePeer are the URLs that others use. Default: the URLs listened on.
	AdvertiseClient, AdvertisePeer []string
	// InitialCluster is "name=peerURL,..." of all members, for a first start. Default: this member alone.
	InitialCluster string
	// Join says that the cluster exists already and this member was added to it.
	Join bool
	// Token keeps clusters apart that were made from the same list of members.
	Token string
	// ClientTLS and PeerTLS protect https URLs; with a CA, the other side needs a certificate.
	ClientTLS, PeerTLS TLS
	// Quota bounds what is in use of the data file, in bytes; default DefaultQuota. See Full.
	Quota int64

	Log *zap.Logger
}

// TLS names the files of a certificate, its key and the CA of the other side.
type TLS struct{ Cert, Key, CA string }

// snapshotCount is how many writes a lone member takes before it notes in a snapshot how far its data file is, and how
// many it keeps in memory.
const snapshotCount = 1000

// startTimeout bounds the wait for a leader. A member of a larger cluster has none until most members are up.
const startTimeout = 2 * time.Minute

// Server is a running embedded member.
type Server struct {
	embedded *embed.Etcd
	client   *clientv3.Client
	alone    bool
	quota    int64
}

// Start starts a member and returns when it can serve: it has a leader and has applied its log. It ends early with
// ctx.
func Start(ctx context.Context, o Options) (*Server, error) {
	cfg, alone, err := o.config()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd data directory: %w", err)
	}
	shortSegments()
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", o.DataDir, err)
	}
	if err := ready(ctx, e, alone); err != nil {
		e.Close()
		return nil, fmt.Errorf("start etcd in %s: %w", o.DataDir, err)
	}
	return &Server{embedded: e, client: v3client.New(e.Server), alone: alone, quota: o.quota()}, nil
}

// shortSegments makes the files of the log 16 MiB instead of 64: a start reads from the beginning of one.
var shortSegments = sync.OnceFunc(func() { wal.SegmentSizeBytes = 16 << 20 })

// ready waits until the member can serve.
func ready(ctx context.Context, e *embed.Etcd, alone bool) error {
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	elections := time.NewTicker(electEvery)
	defer elections.Stop()
	if !alone {
		elections.Stop()
	}
	for {
		select {
		case <-e.Server.ReadyNotify():
			return nil
		case err := <-e.Err():
			return err
		case <-e.Server.StopNotify():
			return errors.New("stopped before it was ready")
		case <-timer.C:
			return fmt.Errorf("no leader after %s", startTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-elections.C:
			if err := elect(ctx, e); err != nil {
				return err
			}
		}
	}
}

// Client is a client that calls the member directly. It is valid until Stop.
func (s *Server) Client() *clientv3.Client { return s.client }

// Revision returns a function that reports the newest revision without a round trip, or nil when other members may
// write too. What it returns is linearizable: a write is applied here before it is acknowledged.
func (s *Server) Revision() func() int64 {
	if !s.alone {
		return nil
	}
	kv := s.embedded.Server.KV()
	return func() int64 {
		// The shared buffer mode does not copy what is not yet committed to the data file.
		tx := kv.Read(mvcc.SharedBufReadTxMode, traceutil.TODO())
		defer tx.End()
		return tx.Rev()
	}
}

// ClientURLs are the URLs that the member serves clients on; port 0 is replaced by the real one.
func (s *Server) ClientURLs() []string {
	urls := make([]string, 0, len(s.embedded.Clients))
	for i, l := range s.embedded.Clients {
		scheme := s.embedded.Config().ListenClientUrls[i].Scheme
		urls = append(urls, scheme+"://"+l.Addr().String())
	}
	return urls
}

// Ready says whether the member knows a leader.
func (s *Server) Ready(context.Context) error {
	if s.embedded.Server.Leader() == 0 {
		return errors.New("etcd has no leader")
	}
	return nil
}

// Done is closed when the member stops, whether asked to or not.
func (s *Server) Done() <-chan struct{} { return s.embedded.Server.StopNotify() }

// Stop stops the member and closes its files.
func (s *Server) Stop() {
	_ = s.client.Close() // it has no connection to lose
	s.embedded.Close()
}

// Identity is what a member is called, all members of its cluster, and where others reach it.
func (o Options) Identity() (name, cluster string, peers []string, err error) {
	cfg, _, err := o.config()
	if err != nil {
		return "", "", nil, err
	}
	for _, u := range cfg.AdvertisePeerUrls {
		peers = append(peers, u.String())
	}
	return cfg.Name, cfg.InitialCluster, peers, nil
}

func (o Options) config() (cfg *embed.Config, alone bool, err error) {
	if o.DataDir == "" {
		return nil, false, errors.New("etcd needs a data directory")
	}
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	cfg = embed.NewConfig()
	cfg.Dir = o.DataDir
	cfg.Name = "hardway"
	if o.Name != "" {
		cfg.Name = o.Name
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quiet(log))
	cfg.QuotaBackendBytes = o.quota() + reserve(o.quota())
	cfg.MaxWalFiles, cfg.MaxSnapFiles = 2, 3 // a start reads all of the log that is kept
	alone = len(o.ListenPeer) == 0
	if alone {
		// Elections need no clock, see elect; slow ticks keep an idle member asleep.
		cfg.TickMs, cfg.ElectionMs = 250, 1250
		// Nobody has to catch up from the log in memory, which holds whole values.
		cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, snapshotCount
	}
	cfg.EnableGRPCGateway = false
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	if o.Token != "" {
		cfg.InitialClusterToken = o.Token
	}
	if err := o.urls(cfg); err != nil {
		return nil, false, err
	}
	cfg.InitialCluster = o.InitialCluster
	if cfg.InitialCluster == "" {
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = o.ClientTLS.info(), o.PeerTLS.info()
	return cfg, alone, nil
}

// urls sets where the member listens and what it tells others. A lone member still needs a peer URL as its identity;
// nothing listens there.
func (o Options) urls(cfg *embed.Config) error {
	peer := o.AdvertisePeer
	if len(peer) == 0 {
		peer = o.ListenPeer
	}
	if len(peer) == 0 {
		peer = []string{embed.DefaultInitialAdvertisePeerURLs}
	}
	client := o.AdvertiseClient
	if len(client) == 0 {
		client = o.ListenClient
	}
	for _, u := range []struct {
		what string
		from []string
		into *[]url.URL
	}{
		{"client URL to listen on", o.ListenClient, &cfg.ListenClientUrls},
		{"peer URL to listen on", o.ListenPeer, &cfg.ListenPeerUrls},
		{"client URL to advertise", client, &cfg.AdvertiseClientUrls},
		{"peer URL to advertise", peer, &cfg.AdvertisePeerUrls},
	} {
		*u.into = make([]url.URL, 0, len(u.from))
		for _, s := range u.from {
			parsed, err := url.Parse(s)
			if err != nil {
				return fmt.Errorf("etcd %s: %w", u.what, err)
			}
			*u.into = append(*u.into, *parsed)
		}
	}
	return nil
}

func (t TLS) info() transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: t.CA != "",
	}
}
