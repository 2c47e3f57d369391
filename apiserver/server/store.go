package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	// elsewhere are the stores of kinds that lie in an etcd of their own.
	elsewhere map[schema.GroupResource]*store.Store
	done      <-chan struct{}
	stop      func()
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

// openStores opens the store, and those of the kinds that lie elsewhere.
func openStores(ctx context.Context, cfg *config.Config, metrics *store.Metrics, log *zap.Logger) (*kept, error) {
	k, err := openStore(ctx, cfg, metrics, log)
	if err != nil {
		return nil, err
	}
	k.elsewhere = map[schema.GroupResource]*store.Store{}
	by := map[string]*store.Store{} // by their servers: kinds of one etcd share a store
	for _, text := range cfg.Etcd.Overrides {
		o, err := config.ParseOverride(text)
		if err == nil && by[strings.Join(o.Servers, " ")] == nil {
			err = k.addStore(ctx, cfg.Etcd, o.Servers, by, metrics, log)
		}
		if err != nil {
			k.stop()
			return nil, err
		}
		k.elsewhere[o.Kind] = by[strings.Join(o.Servers, " ")]
	}
	return k, nil
}

// addStore connects to a further etcd, which must answer for the server to be ready.
func (k *kept) addStore(ctx context.Context, e config.Etcd, servers []string, by map[string]*store.Store, metrics *store.Metrics, log *zap.Logger) error {
	client, err := etcd.Dial(ctx, etcd.External{Endpoints: servers, TLS: etcdFiles(e), Log: log.Named("etcd")})
	if err != nil {
		return err
	}
	st := store.New(client, store.Options{Prefix: e.Prefix, Metrics: metrics})
	by[strings.Join(servers, " ")] = st
	stop, ready, here := k.stop, k.ready, answers(st)
	k.stop = func() { client.Close(); stop() } //nolint:errcheck // nothing is left to lose
	k.ready = func(ctx context.Context) error { return errors.Join(ready(ctx), here(ctx)) }
	return nil
}

// storeOf is where a kind lies if it lies elsewhere.
func (k *kept) storeOf(gr schema.GroupResource) *store.Store { return k.elsewhere[gr] }

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
