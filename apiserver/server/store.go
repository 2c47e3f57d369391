package server

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hardway/apiserver/config"
	"hardway/apiserver/etcd"
	"hardway/apiserver/store"
)

// kept is the opened store.
type kept struct {
	*store.Store
	ready    func(context.Context) error
	space    func(context.Context) (etcd.Space, error)
	snapshot func(context.Context) (io.ReadCloser, error)
	metrics  prometheus.Gatherers // of the embedded member
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

var sizeDesc = prometheus.NewDesc("apiserver_storage_size_bytes", "Size of the storage database file physically allocated in bytes.", []string{"storage_cluster_id"}, nil)

var fullDesc = prometheus.NewDesc("hardway_apiserver_storage_full", "Whether etcd is so full that nothing may grow.", []string{"storage_cluster_id"}, nil)

var alarmsDesc = prometheus.NewDesc("hardway_apiserver_storage_alarms", "Number of alarms that etcd has raised.", []string{"storage_cluster_id"}, nil)

// Describe implements prometheus.Collector.
func (k *kept) Describe(out chan<- *prometheus.Desc) {
	out <- sizeDesc
	out <- fullDesc
	out <- alarmsDesc
}

// Collect implements prometheus.Collector. An etcd that does not answer has no figures.
func (k *kept) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	space, err := k.space(ctx)
	if err != nil {
		return
	}
	full := 0.0
	if space.Full {
		full = 1
	}
	const cluster = "etcd-0" // upstream's name of the one that --etcd-servers names
	out <- prometheus.MustNewConstMetric(sizeDesc, prometheus.GaugeValue, float64(space.Size), cluster)
	out <- prometheus.MustNewConstMetric(fullDesc, prometheus.GaugeValue, full, cluster)
	out <- prometheus.MustNewConstMetric(alarmsDesc, prometheus.GaugeValue, float64(len(space.Alarms)), cluster)
}

// openStore starts the embedded etcd, or connects to an external one.
func openStore(ctx context.Context, cfg *config.Config, metrics *store.Metrics, log *zap.Logger) (*kept, error) {
	e := cfg.Etcd
	if len(e.Servers) > 0 {
		client, err := etcd.Dial(ctx, etcd.External{Endpoints: e.Servers, TLS: etcdFiles(e), Log: log.Named("etcd")})
		if err != nil {
			return nil, err
		}
		st := store.New(client, store.Options{Prefix: e.Prefix, Metrics: metrics})
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
		Store: store.New(member.Client(), store.Options{Prefix: e.Prefix, Revision: member.Revision(), Full: member.Full, Metrics: metrics}),
		ready: member.Ready, space: member.Space,
		snapshot: func(ctx context.Context) (io.ReadCloser, error) { return etcd.Snapshot(ctx, member.Client()) },
		metrics:  prometheus.Gatherers{member.Metrics()},
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
