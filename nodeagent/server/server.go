package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/config"
	"hardway/nodeagent/device"
	"hardway/nodeagent/evict"
	"hardway/nodeagent/image"
	"hardway/nodeagent/network"
	"hardway/nodeagent/node"
	"hardway/nodeagent/observe"
	"hardway/nodeagent/plugin"
	"hardway/nodeagent/podsource"
	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/podsource/objects"
	"hardway/nodeagent/podsource/static"
	"hardway/nodeagent/podworker"
	"hardway/nodeagent/podworker/pull"
	"hardway/nodeagent/probe"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/serve"
	"hardway/nodeagent/status"
	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/configmap"
	"hardway/nodeagent/volume/csi"
	"hardway/nodeagent/volume/downwardapi"
	"hardway/nodeagent/volume/emptydir"
	"hardway/nodeagent/volume/hostpath"
	"hardway/nodeagent/volume/imagevolume"
	"hardway/nodeagent/volume/local"
	"hardway/nodeagent/volume/nfs"
	"hardway/nodeagent/volume/projected"
	"hardway/nodeagent/volume/secret"
	"hardway/shared/client"
	"hardway/shared/daemon"
	"hardway/shared/metrics"
)

// maxNodeImages is how many images the Node's status lists.
const maxNodeImages = 50

// agent is the node agent put together.
type agent struct {
	cfg     *config.Config
	log     *zap.Logger
	api     *client.API
	reg     *prometheus.Registry
	health  *daemon.Health
	events  *client.Recorder
	machine node.Machine
	ips     []string

	images   images
	network  *network.Bridge
	runtime  *runtime.Runtime
	ready    atomic.Pointer[error] // why the network is not ready; points to nil when it is
	informer struct {
		set      *client.Informers
		pods     *client.Informer[corev1.Pod]
		services *client.Informer[corev1.Service]
		node     *client.Informer[corev1.Node]
	}
	objects   *objects.Set
	puller    *pull.Puller
	evict     *evict.Evictor
	collector *collector
	static    *static.Pods // nil: no manifest folder
	volumeSet *volume.Set
	csi       *csi.Type
	tokens    *tokens
	plugins   *plugin.Registry
	devices   *device.Plugins
	writer    *status.Writer
	prober    *probe.Prober
	workers   *podworker.Workers
	node      *node.Node
}

var errNoRange = errors.New("network not ready: waiting for pod CIDR")

// Run runs the node agent until ctx ends.
func Run(ctx context.Context, cfg *config.Config, log *zap.Logger) error {
	for _, field := range cfg.Unused {
		log.Warn("configuration field has no effect here", zap.String("field", field))
	}
	a := &agent{cfg: cfg, log: log, reg: metrics.New(), health: daemon.NewHealth()}
	a.setReady(errNoRange)
	if err := join(ctx, cfg, log.Named("certificate")); err != nil {
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	defer a.runtime.Close()
	if err := a.build(); err != nil {
		return err
	}
	var g daemon.Group
	if err := a.listen(&g); err != nil {
		return err
	}
	a.keepClientCertificate(&g)
	g.Add("events", a.events.Run)
	g.Add("watchdog", daemon.Watchdog(a.health))
	g.Add("watches", a.informer.set.Run)
	g.Add("statuses", a.writer.Run)
	g.Add("probes", a.prober.Run)
	g.Add("pods", a.runPods)
	g.Add("network", a.runNetwork)
	if cfg.NetworkMode != string(network.None) {
		g.Add("peers", a.runPeers)
	}
	g.Add("node", a.node.Run)
	g.Add("CSINode", a.csi.Drivers.Node.Run)
	g.Add("plugins", a.plugins.Run)
	g.Add("device plugins", a.devices.Run)
	g.Add("lease", (&node.Lease{
		API: leases{a.api}, Node: cfg.Hostname, UID: a.nodeUID, Seconds: cfg.Kubelet.NodeLeaseDurationSeconds, Log: log.Named("lease"),
	}).Run)
	return g.Run(ctx)
}

// open makes the directories and opens everything that is on this machine, and the connection to the API.
func (a *agent) open() error {
	cfg := a.cfg
	for _, dir := range []string{cfg.RootDir, cfg.StateDir, cfg.ImageDir, cfg.Kubelet.PodLogsDir, cfg.LinksDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	rc, err := client.Config(cfg.Kubeconfig, "hardway-nodeagent")
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	if a.api, err = client.New(rc); err != nil {
		return err
	}
	if a.machine, err = node.ReadMachine(cfg.RootDir); err != nil {
		return err
	}
	if a.ips = cfg.NodeIPs; len(a.ips) == 0 {
		ip, err := node.Address(peer(rc.Host))
		if err != nil {
			return &daemon.ConfigError{Err: fmt.Errorf("--node-ip is needed: %w", err)}
		}
		a.ips = []string{ip.String()}
	}
	store, err := image.Open(cfg.ImageDir, image.Options{HostsDir: cfg.HostsDir})
	if err != nil {
		return err
	}
	a.images = images{store}
	if a.network, err = network.Open(filepath.Join(cfg.StateDir, "network")); err != nil {
		return err
	}
	a.runtime, err = runtime.Open(runtime.Options{
		StateDir: cfg.StateDir, ImageDir: cfg.ImageDir, CgroupRoot: cfg.Kubelet.CgroupRoot, Images: store, KeepLeases: imagevolume.Prefix, Network: a.network,
		Log: a.log.Named("runtime"),
	})
	return err
}

// peer is the apiserver's address as host:port.
func peer(host string) string {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, "443")
	}
	return host
}

// build puts the parts together.
func (a *agent) build() error {
	cfg, log := a.cfg, a.log
	a.events = client.NewRecorder(a.api, "kubelet", cfg.Hostname)
	in := client.NewInformers(a.api, log.Named("watch"))
	a.informer.set = in
	a.informer.pods = client.Pods.Informer(in, client.Options{FieldSelector: "spec.nodeName=" + cfg.Hostname})
	a.informer.node = client.Nodes.Informer(in, client.Options{FieldSelector: "metadata.name=" + cfg.Hostname})
	a.informer.services = client.Services.Informer(in, client.Options{Transform: slimService})
	changed := func(k objects.Key) { a.workers.ObjectChanged(k) }
	a.objects = &objects.Set{
		ConfigMaps: objects.New[corev1.ConfigMap](source[corev1.ConfigMap, corev1.ConfigMapList]{a.api, client.ConfigMaps,
			func(l *corev1.ConfigMapList) ([]corev1.ConfigMap, string) { return l.Items, l.ResourceVersion }}, "configmaps", changed, log),
		Secrets: objects.New[corev1.Secret](source[corev1.Secret, corev1.SecretList]{a.api, client.Secrets,
			func(l *corev1.SecretList) ([]corev1.Secret, string) { return l.Items, l.ResourceVersion }}, "secrets", changed, log),
	}
	exec := execs{a.runtime}
	a.tokens = &tokens{api: a.api, kept: map[tokenKey]token{}}
	if err := a.openPlugins(); err != nil {
		return err
	}
	a.volumeSet, a.collector = a.volumes(), &collector{agent: a}
	var err error
	if a.evict, err = a.evictor(); err != nil {
		return &daemon.ConfigError{Err: err}
	}
	a.puller = pull.New(a.images, int(*cfg.Kubelet.MaxParallelImagePulls))
	a.prober = probe.New(exec.probe, a.note, func(uid types.UID) { a.workers.Wake(uid) }, log.Named("probe"))
	a.writer = status.NewWriter(a.patchStatus, func(uid types.UID, st corev1.PodStatus) { a.workers.Stored(uid, st) }, log.Named("status"))
	a.workers = podworker.New(podworker.Deps{
		Runtime: a.runtime, Exec: exec.run, Volumes: a.volumeSet, Devices: a.devices, Objects: a.objects,
		Puller: a.puller, Handler: a.handler, Pressure: a.evict.Pressure, Image: a.images.Get, Prober: a.prober, Status: a.writer,
		Delete: a.deletePod, Note: a.note, HostIPs: a.ips, Node: a.composeNode, Object: a.object, Services: a.services, Settings: a.settings,
		UnsafeSysctls: cfg.Kubelet.AllowedUnsafeSysctls, LinksDir: cfg.LinksDir(), Log: log.Named("pod"),
		Metrics: podworker.NewMetrics(a.reg), Starts: max(4, 2*goruntime.NumCPU()),
	})
	a.static = a.staticPods()
	a.informer.node.OnChange(func(old, _ *corev1.Node) {
		a.workers.WakeAll()
		if old == nil && a.static != nil {
			a.static.MirrorChanged()
		}
	})
	a.node = node.New(nodes{a.api}, node.Options{
		Name: cfg.Hostname, Labels: cfg.Labels, Taints: cfg.Kubelet.RegisterWithTaints, ProviderID: cfg.Kubelet.ProviderID,
		Register: *cfg.Kubelet.RegisterNode, StatusEvery: cfg.Kubelet.NodeStatusUpdateFrequency.Duration,
		ReportEvery: cfg.Kubelet.NodeStatusReportFrequency.Duration, Facts: a.facts,
	}, func(eventtype, reason, format string, args ...any) {
		a.events.Event(node.Ref(cfg.Hostname), eventtype, reason, format, args...)
	}, log.Named("node"))
	a.health.Ready("watches", a.synced)
	return nil
}

// volumes is the ordered list of volume types.
func (a *agent) volumes() *volume.Set {
	facts := func() fields.Node { return a.composeNode().Node }
	return volume.NewSet(a.cfg.RootDir, claims{a},
		emptydir.Type{},
		hostpath.Type{},
		configmap.Type{Objects: a.objects},
		secret.Type{Objects: a.objects},
		downwardapi.Type{Node: facts},
		local.Type{},
		nfs.Type{},
		a.csi,
		imagevolume.Type{Images: volumeImages{a}},
		projected.Type{Objects: a.objects, Node: facts, Tokens: a.tokens},
	)
}

// slimService keeps what environment variables are made of.
func slimService(obj any) (any, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion},
		Spec:       corev1.ServiceSpec{ClusterIP: s.Spec.ClusterIP, Ports: s.Spec.Ports},
	}, nil
}

// listen adds the servers of ports 10250 and 10248.
func (a *agent) listen(g *daemon.Group) error {
	k := &a.cfg.Kubelet
	if p := *k.HealthzPort; p > 0 {
		l, err := daemon.Listen(net.JoinHostPort(k.HealthzBindAddress, fmt.Sprint(p)))
		if err != nil {
			return err
		}
		g.Add("health", func(ctx context.Context) error { return daemon.Serve(ctx, l, nil, a.health, a.log.Named("health")) })
	}
	if !*k.EnableServer {
		return nil
	}
	h := serve.Handler(serve.Options{
		Node: a.cfg.Hostname, Pods: a.workers, Runtime: a.runtime, Volumes: a.volumeStats, RootDir: a.cfg.RootDir, ImageDir: a.cfg.ImageDir, LogDir: k.PodLogsDir, IdleTimeout: k.StreamingConnectionIdleTimeout.Duration,
		Auth: a.authOptions(), Config: k, Health: a.health, Registry: a.reg, Log: a.log.Named("serve"),
	})
	return a.serve(g, h)
}

// runPods runs the pods: those of the manifest folder at once, those of the API when it is known which there are.
func (a *agent) runPods(ctx context.Context) error {
	var g daemon.Group
	if a.static != nil {
		g.Add("workers", a.workers.Run)
		g.Add("static pods", a.static.Run)
	}
	g.Add("pods of the API", a.runAPIPods)
	return g.Run(ctx)
}

func (a *agent) runAPIPods(ctx context.Context) error {
	if !a.informer.set.WaitForSync(ctx) {
		return nil
	}
	source := podsource.New(a.informer.pods, a.workers)
	source.Begin()
	if a.static != nil {
		a.static.MirrorChanged()
	}
	daemon.NotifyReady()
	var g daemon.Group
	if a.static == nil {
		g.Add("workers", a.workers.Run)
	}
	g.Add("source", source.Run)
	g.Add("evict", a.evict.Run)
	g.Add("images", a.collector.run)
	g.Add("cgroups", a.runCgroups)
	g.Add("observer", observe.New(a.runtime, a.workers, a.log.Named("observe"), a.reg).Run)
	return g.Run(ctx)
}

func (a *agent) setReady(err error) { a.ready.Store(&err) }

func (a *agent) synced(context.Context) error {
	if !a.informer.pods.HasSynced() || !a.informer.services.HasSynced() || !a.informer.node.HasSynced() {
		return errors.New("the first lists have not arrived")
	}
	return nil
}
