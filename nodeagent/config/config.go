// Package config is the node agent's configuration: flags, and a KubeletConfiguration file that is read strictly. A
// flag that is given wins over the file. What the file may say and this agent does not do is reported by name, so that
// nothing is ignored in silence; what would weaken the node without being noticed is refused.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	kubelet "k8s.io/kubelet/config/v1beta1"

	"hardway/nodeagent/evict"
	"hardway/shared/daemon"
)

// Config is everything that can be set. The zero value is not useful; start from Default.
type Config struct {
	File       string // KubeletConfiguration; empty: defaults
	Kubeconfig string
	Bootstrap  string // kubeconfig with which the first client certificate is asked for; empty: Kubeconfig must be there
	CertDir    string // certificates that were asked for; empty: "pki" below RootDir
	RootDir    string // pods' folders
	StateDir   string // what lives as long as the kernel does: supervisors, namespaces
	ImageDir   string
	HostsDir   string // <registry>/hosts.toml: mirrors and CAs of registries
	Hostname   string // name of the Node; empty: the machine's
	NodeIPs    []string
	Labels     map[string]string
	taints     []string

	ClusterCIDR string // of all pods: traffic to it is not translated
	Bridge      string // name of the pod bridge
	NetworkMode string // how pods of other nodes are reached

	Kubelet kubelet.KubeletConfiguration // after Load: file, defaults and flags
	Unused  []string                     // fields of the file that have no effect here

	flags overrides
}

// overrides are flags that stand for a field of the file.
type overrides struct {
	set                                                         *pflag.FlagSet
	podCIDR, address, certFile, keyFile, caFile, clusterDomain  string
	cgroupRoot, resolvConf, providerID, healthzAddress, logsDir string
	staticPods                                                  string
	clusterDNS                                                  []string
	port, healthzPort, maxPods                                  int32
	registerNode, rotateClient, rotateServer                    bool
}

// Default returns the configuration without any flag.
func Default() *Config {
	return &Config{
		RootDir: "/var/lib/kubelet", StateDir: "/run/hardway", ImageDir: "/var/lib/hardway/images", ClusterCIDR: "10.200.0.0/16",
		NetworkMode: "vxlan", HostsDir: "/etc/hardway/registries",
	}
}

// AddFlags binds the flags.
func (c *Config) AddFlags(fs *pflag.FlagSet) {
	c.flags.set = fs
	fs.StringVar(&c.File, "config", c.File, "file with a KubeletConfiguration (kubelet.config.k8s.io/v1beta1)")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "kubeconfig file with which the apiserver is reached")
	fs.StringVar(&c.Bootstrap, "bootstrap-kubeconfig", c.Bootstrap, "kubeconfig file, with a bootstrap token, with which a client certificate is asked for when --kubeconfig is not there or its certificate is over")
	fs.StringVar(&c.CertDir, "cert-dir", c.CertDir, "directory for certificates that were asked for (default: pki below --root-dir)")
	fs.BoolVar(&c.flags.rotateClient, "rotate-certificates", false, "renew the client certificate before it is over")
	fs.BoolVar(&c.flags.rotateServer, "rotate-server-certificates", false, "ask the cluster for the serving certificate, and renew it (serverTLSBootstrap)")
	fs.StringVar(&c.Hostname, "hostname-override", c.Hostname, "name of the node instead of the machine's host name")
	fs.StringSliceVar(&c.NodeIPs, "node-ip", c.NodeIPs, "addresses of the node (default: that of the interface with the default route)")
	fs.StringToStringVar(&c.Labels, "node-labels", c.Labels, "labels of the node, key=value")
	fs.StringSliceVar(&c.taints, "register-with-taints", nil, "taints of the node when it is registered, key=value:effect")
	fs.BoolVar(&c.flags.registerNode, "register-node", true, "create the Node object")
	fs.StringVar(&c.RootDir, "root-dir", c.RootDir, "directory for the pods' volumes and files")
	fs.StringVar(&c.StateDir, "state-dir", c.StateDir, "directory for what lives as long as the kernel does")
	fs.StringVar(&c.ImageDir, "image-dir", c.ImageDir, "directory for images")
	fs.StringVar(&c.HostsDir, "registry-hosts-dir", c.HostsDir, "directory of <registry>/hosts.toml files (containerd's format): mirrors and CAs")
	fs.StringVar(&c.flags.podCIDR, "pod-cidr", "", "addresses for pods of this node, if the Node object gets none")
	fs.StringVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "addresses of all pods of the cluster")
	fs.StringVar(&c.Bridge, "pod-bridge", c.Bridge, "name of the bridge that pods are connected to (default hw0)")
	fs.StringVar(&c.NetworkMode, "network-mode", c.NetworkMode, "how pods of other nodes are reached: vxlan, route (nodes share a link), none (somebody else routes)")
	fs.StringVar(&c.flags.address, "address", "", "address to serve on")
	fs.Int32Var(&c.flags.port, "port", 0, "port to serve on")
	fs.StringVar(&c.flags.healthzAddress, "healthz-bind-address", "", "address of the plain health port")
	fs.Int32Var(&c.flags.healthzPort, "healthz-port", 0, "plain health port, 0 for none")
	fs.StringVar(&c.flags.certFile, "tls-cert-file", "", "serving certificate")
	fs.StringVar(&c.flags.keyFile, "tls-private-key-file", "", "key of the serving certificate")
	fs.StringVar(&c.flags.caFile, "client-ca-file", "", "CA of the clients that may ask this node")
	fs.StringSliceVar(&c.flags.clusterDNS, "cluster-dns", nil, "addresses of the cluster's DNS")
	fs.StringVar(&c.flags.clusterDomain, "cluster-domain", "", "domain of the cluster")
	fs.StringVar(&c.flags.resolvConf, "resolv-conf", "", "the node's resolv.conf")
	fs.StringVar(&c.flags.cgroupRoot, "cgroup-root", "", "cgroup below which pods run")
	fs.StringVar(&c.flags.logsDir, "pod-logs-dir", "", "directory for the logs of pods")
	fs.StringVar(&c.flags.staticPods, "pod-manifest-path", "", "directory of manifests of static pods")
	fs.StringVar(&c.flags.providerID, "provider-id", "", "id of this machine at its provider")
	fs.Int32Var(&c.flags.maxPods, "max-pods", 0, "how many pods may run here")
	daemon.Ignored(fs, "container-runtime", "container-runtime-endpoint", "image-service-endpoint", "image-pull-progress-deadline",
		"network-plugin", "cni-bin-dir", "cni-conf-dir", "cni-cache-dir", "pod-infra-container-image", "non-masquerade-cidr",
		"network-plugin-mtu", "runtime-cgroups", "kubelet-cgroups", "allow-privileged", "cloud-provider", "cloud-config",
		"feature-gates", "serialize-image-pulls", "fail-swap-on",
		"cgroup-driver", "cgroups-per-qos", "enforce-node-allocatable", "experimental-bootstrap-kubeconfig", "log-dir", "logtostderr",
		"alsologtostderr", "stderrthreshold", "vmodule", "authentication-token-webhook", "authorization-mode", "anonymous-auth",
		"read-only-port", "keep-terminated-pod-volumes", "register-schedulable", "docker", "docker-endpoint", "minimum-image-ttl-duration",
		"streaming-connection-idle-timeout", "protect-kernel-defaults", "make-iptables-util-chains", "event-qps", "eviction-hard")
}

// Load reads the file, fills in defaults, lets flags win, and reports all problems at once.
func (c *Config) Load() error {
	if err := c.readFile(); err != nil {
		return err
	}
	c.override()
	if err := c.setDefaults(); err != nil {
		return err
	}
	return c.validate()
}

// override applies the flags that were given.
func (c *Config) override() {
	k, f := &c.Kubelet, &c.flags
	given := func(name string) bool { return f.set != nil && f.set.Changed(name) }
	for name, s := range map[string]struct{ from, to *string }{
		"pod-cidr": {&f.podCIDR, &k.PodCIDR}, "address": {&f.address, &k.Address}, "tls-cert-file": {&f.certFile, &k.TLSCertFile},
		"tls-private-key-file": {&f.keyFile, &k.TLSPrivateKeyFile}, "client-ca-file": {&f.caFile, &k.Authentication.X509.ClientCAFile},
		"cluster-domain": {&f.clusterDomain, &k.ClusterDomain}, "cgroup-root": {&f.cgroupRoot, &k.CgroupRoot},
		"provider-id": {&f.providerID, &k.ProviderID}, "healthz-bind-address": {&f.healthzAddress, &k.HealthzBindAddress},
		"pod-logs-dir": {&f.logsDir, &k.PodLogsDir}, "pod-manifest-path": {&f.staticPods, &k.StaticPodPath},
	} {
		if given(name) {
			*s.to = *s.from
		}
	}
	if given("resolv-conf") {
		k.ResolverConfig = &f.resolvConf
	}
	if given("cluster-dns") {
		k.ClusterDNS = f.clusterDNS
	}
	if given("port") {
		k.Port = f.port
	}
	if given("max-pods") {
		k.MaxPods = f.maxPods
	}
	if given("healthz-port") {
		k.HealthzPort = &f.healthzPort
	}
	if given("rotate-certificates") {
		k.RotateCertificates = f.rotateClient
	}
	if given("rotate-server-certificates") {
		k.ServerTLSBootstrap = f.rotateServer
	}
	if given("register-node") {
		k.RegisterNode = &f.registerNode
	}
}

// setDefaults fills in what neither file nor flags say.
func (c *Config) setDefaults() error {
	k := &c.Kubelet
	if c.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("host name: %w", err)
		}
		c.Hostname = name
	}
	c.Hostname = strings.ToLower(strings.TrimSpace(c.Hostname))
	for _, s := range []struct {
		field *string
		value string
	}{
		{&k.Address, "0.0.0.0"}, {&k.HealthzBindAddress, "127.0.0.1"}, {&k.ClusterDomain, "cluster.local"},
		{&k.PodLogsDir, "/var/log/pods"}, {&k.CgroupRoot, "hardway"}, {&k.ContainerLogMaxSize, "10Mi"},
	} {
		if *s.field == "" {
			*s.field = s.value
		}
	}
	if c.CertDir == "" {
		c.CertDir = filepath.Join(c.RootDir, "pki")
	}
	if c.ServingRequested() {
		k.TLSCertFile, k.TLSPrivateKeyFile = c.ServingFile(), c.ServingFile()
	}
	k.CgroupRoot = strings.Trim(k.CgroupRoot, "/")
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&k.NodeStatusUpdateFrequency.Duration, 10 * time.Second}, {&k.NodeStatusReportFrequency.Duration, 5 * time.Minute},
		{&k.StreamingConnectionIdleTimeout.Duration, 4 * time.Hour}, {&k.FileCheckFrequency.Duration, 20 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, n := range []struct {
		field *int32
		value int32
	}{{&k.Port, 10250}, {&k.MaxPods, 110}, {&k.NodeLeaseDurationSeconds, 40}} {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	k.RegisterNode = or(k.RegisterNode, true)
	k.EnableServer = or(k.EnableServer, true)
	k.HealthzPort = or(k.HealthzPort, int32(10248))
	k.CPUCFSQuota = or(k.CPUCFSQuota, true)
	k.SeccompDefault = or(k.SeccompDefault, true) // Differs from upstream, where pods are unconfined unless they ask.
	k.ContainerLogMaxFiles = or(k.ContainerLogMaxFiles, int32(5))
	k.ResolverConfig = or(k.ResolverConfig, hostResolver())
	k.MaxParallelImagePulls = or(k.MaxParallelImagePulls, int32(5))
	k.ImageGCHighThresholdPercent = or(k.ImageGCHighThresholdPercent, int32(85))
	k.ImageGCLowThresholdPercent = or(k.ImageGCLowThresholdPercent, int32(80))
	if k.ImageMinimumGCAge.Duration == 0 {
		k.ImageMinimumGCAge.Duration = 2 * time.Minute
	}
	if k.EvictionPressureTransitionPeriod.Duration == 0 {
		k.EvictionPressureTransitionPeriod.Duration = 5 * time.Minute
	}
	if k.EvictionHard == nil {
		k.EvictionHard = evict.Defaults
	}
	if k.EnforceNodeAllocatable == nil {
		k.EnforceNodeAllocatable = []string{"pods"}
	}
	return c.parseTaints()
}

// EnforcesPods says whether all pods together are limited to what the node has for them.
func (c *Config) EnforcesPods() bool {
	return slices.Contains(c.Kubelet.EnforceNodeAllocatable, "pods")
}

func or[T any](p *T, value T) *T {
	if p == nil {
		return &value
	}
	return p
}

// hostResolver is the node's resolv.conf. Behind systemd-resolved's local stub, which pods cannot reach, it is the
// file that names the real servers.
func hostResolver() string {
	const own, real = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	data, err := os.ReadFile(own)
	if err != nil || !strings.Contains(string(data), "nameserver 127.0.0.53") {
		return own
	}
	if _, err := os.Stat(real); err != nil {
		return own
	}
	return real
}

func (c *Config) parseTaints() error {
	for _, s := range c.taints {
		rest, effect, ok := strings.Cut(s, ":")
		key, value, _ := strings.Cut(rest, "=")
		effects := []string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}
		if !ok || key == "" || !slices.Contains(effects, effect) {
			return fmt.Errorf("--register-with-taints: %q is not key=value:effect with effect one of %s", s, strings.Join(effects, ", "))
		}
		c.Kubelet.RegisterWithTaints = append(c.Kubelet.RegisterWithTaints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	c.taints = nil
	return nil
}

// validate returns everything that is wrong.
func (c *Config) validate() error {
	k := &c.Kubelet
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	add(c.Kubeconfig == "", "--kubeconfig is needed")
	for _, m := range validation.IsDNS1123Subdomain(c.Hostname) {
		add(true, "--hostname-override %q: %s", c.Hostname, m)
	}
	for _, ip := range append(slices.Clone(c.NodeIPs), k.ClusterDNS...) {
		add(net.ParseIP(ip) == nil, "%q is not an IP address (--node-ip, clusterDNS)", ip)
	}
	for name, cidr := range map[string]string{"podCIDR": k.PodCIDR, "--cluster-cidr": c.ClusterCIDR} {
		if cidr != "" {
			_, err := netip.ParsePrefix(cidr)
			add(err != nil, "%s: %q is not a range of addresses such as 10.200.1.0/24", name, cidr)
		}
	}
	if *k.EnableServer {
		add(k.TLSCertFile == "" || k.TLSPrivateKeyFile == "", "tlsCertFile and tlsPrivateKeyFile are needed (or enableServer: false)")
		add(k.Authentication.X509.ClientCAFile == "", "authentication.x509.clientCAFile is needed: requests are authenticated by certificate")
	}
	add(k.Authentication.Anonymous.Enabled != nil && *k.Authentication.Anonymous.Enabled,
		"authentication.anonymous.enabled: true is not supported: everything but /healthz needs a client certificate")
	mode := k.Authorization.Mode
	add(mode != "" && mode != kubelet.KubeletAuthorizationModeWebhook && mode != kubelet.KubeletAuthorizationModeAlwaysAllow,
		"authorization.mode %q is unknown", mode)
	add(k.ReadOnlyPort != 0, "readOnlyPort is not supported: there is no port without authentication")
	_, err := evict.Parse(k.EvictionHard, k.EvictionSoft, k.EvictionSoftGracePeriod, k.EvictionMinimumReclaim)
	add(err != nil, "%w", err)
	add(*k.ImageGCLowThresholdPercent >= *k.ImageGCHighThresholdPercent || *k.ImageGCHighThresholdPercent > 100,
		"imageGCLowThresholdPercent must be below imageGCHighThresholdPercent, and that at most 100")
	for _, e := range k.EnforceNodeAllocatable {
		add(e != "pods" && e != "none", "enforceNodeAllocatable %q is not supported: only pods", e)
	}
	add(k.MaxPods < 1, "maxPods must be at least 1")
	add(k.NodeLeaseDurationSeconds < 4, "nodeLeaseDurationSeconds must be at least 4")
	add(k.StaticPodURL != "", "staticPodURL is not supported: only staticPodPath")
	add(k.StaticPodPath != "" && !filepath.IsAbs(k.StaticPodPath), "staticPodPath %q must be an absolute path", k.StaticPodPath)
	size, err := resource.ParseQuantity(k.ContainerLogMaxSize)
	add(err != nil || size.Value() < 1<<10, "containerLogMaxSize %q must be a size of at least 1Ki", k.ContainerLogMaxSize)
	add(*k.ContainerLogMaxFiles < 2, "containerLogMaxFiles must be at least 2")
	if p := k.CrashLoopBackOff.MaxContainerRestartPeriod; p != nil {
		add(p.Duration < time.Second || p.Duration > 5*time.Minute, "crashLoopBackOff.maxContainerRestartPeriod must be between 1s and 5m")
	}
	add(!slices.Contains([]string{"vxlan", "route", "none"}, c.NetworkMode), "--network-mode %q must be vxlan, route or none", c.NetworkMode)
	for name, list := range map[string]map[string]string{"systemReserved": k.SystemReserved, "kubeReserved": k.KubeReserved} {
		for r, v := range list {
			_, err := resource.ParseQuantity(v)
			add(err != nil, "%s[%s]: %q is not a quantity", name, r, v)
		}
	}
	for _, dir := range []string{c.RootDir, c.StateDir, c.ImageDir} {
		add(!filepath.IsAbs(dir), "directory %q must be an absolute path (--root-dir, --state-dir, --image-dir)", dir)
	}
	return errors.Join(errs...)
}

// Reserved is what the system keeps for itself: both lists of the file, added up.
func (c *Config) Reserved() corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, list := range []map[string]string{c.Kubelet.SystemReserved, c.Kubelet.KubeReserved} {
		for name, v := range list {
			sum := out[corev1.ResourceName(name)]
			sum.Add(resource.MustParse(v)) // validate has parsed it
			out[corev1.ResourceName(name)] = sum
		}
	}
	return out
}

// ServingRequested says whether the serving certificate is asked for: a file that is named wins.
func (c *Config) ServingRequested() bool {
	return c.Kubelet.ServerTLSBootstrap && (c.Kubelet.TLSCertFile == "" || c.Kubelet.TLSCertFile == c.ServingFile())
}

// ServingFile and ClientFile hold the certificates that were asked for, each with its key; the names are upstream's.
func (c *Config) ServingFile() string { return filepath.Join(c.CertDir, "kubelet-server-current.pem") }

// ClientFile is the one for the client certificate.
func (c *Config) ClientFile() string { return filepath.Join(c.CertDir, "kubelet-client-current.pem") }

// LinksDir is where links to all container logs are kept, beside the logs: /var/log/containers for /var/log/pods.
func (c *Config) LinksDir() string {
	return filepath.Join(filepath.Dir(c.Kubelet.PodLogsDir), "containers")
}
