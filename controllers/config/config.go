// Package config is the configuration of the controllers daemon: upstream's flags of kube-controller-manager, their
// defaults and checks.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hardway/shared/daemon"
)

// Config is all that can be set. Default makes one; Flags binds it; Validate checks it.
type Config struct {
	Kubeconfig  string   // how to reach the API server; empty: from inside a pod
	Controllers []string // names; "*" is all, "-name" is all but this one
	OwnAccounts bool     // each controller acts as a service account of its own

	ClusterCIDR       []string // ranges that nodes get their pod ranges from: one, or one of each family
	AllocateNodeCIDRs bool     // give each node a range for its pods
	NodeMask          int      // size of a node's range, both families; 0: 24 for IPv4, 64 for IPv6
	NodeMask4         int      // IPv4 only; 0: NodeMask
	NodeMask6         int      // IPv6 only; 0: NodeMask
	ServiceCIDR       []string // the Services' ranges, kept out of the nodes' ranges
	RootCAFile        string   // certificate authority that goes into every namespace
	ClusterName       string   // prefix of what is shared with others outside of the cluster

	NodeMonitorGracePeriod time.Duration // silence after which a node is taken for lost
	NodeStartupGracePeriod time.Duration // the same for a node that never reported
	NodeEvictionRate       float64       // nodes per second and zone that are given up
	TerminatedPods         int           // finished pods beyond this number are deleted, oldest first; 0: none are

	ServiceAccountKey string // signs tokens without an end, for Secrets that ask for one

	Signing         map[string]*SigningFiles // authorities by signer; under "" the one of all others
	SigningDuration time.Duration            // how long certificates last at most
	ApproveServing  bool                     // approve serving certificates that nodes want for their own names

	Autoscaler Autoscaler

	LoadBalancerPool []string // addresses for Services of type LoadBalancer: ranges, prefixes
	CloudProvider    string   // "external": a cloud's controller gives addresses; "": none does

	ScrubImage string // image with a shell, for the pods that empty released volumes

	KeepAttached bool // a node that says it uses a volume is waited for without end

	Workers map[string]*int // by flag name: how many objects a controller works on at a time

	LeaderElect       bool
	LeaseDuration     time.Duration
	RenewDeadline     time.Duration
	RetryPeriod       time.Duration
	ResourceName      string
	ResourceNamespace string
	ResourceLock      string

	BindAddress  string
	SecurePort   int // 0: no port at all
	CertFile     string
	KeyFile      string
	ClientCAFile string
}

// workers are the flags --concurrent-...-syncs and upstream's defaults.
var workers = []struct {
	flag string
	n    int
}{
	{"concurrent-deployment-syncs", 5},
	{"concurrent-replicaset-syncs", 5},
	{"concurrent-rc-syncs", 5},
	{"concurrent-statefulset-syncs", 5},
	{"concurrent-daemonset-syncs", 2},
	{"concurrent-job-syncs", 5},
	{"concurrent-cron-job-syncs", 5},
	{"concurrent-horizontal-pod-autoscaler-syncs", 5},
	{"concurrent-resource-quota-syncs", 5},
	{"concurrent-ttl-after-finished-syncs", 5},
	{"concurrent-ephemeralvolume-syncs", 5},
	{"concurrent-resource-claim-syncs", 50},
	{"concurrent-validating-admission-policy-status-syncs", 5},
	{"concurrent-endpoint-syncs", 5},
	{"concurrent-service-endpoint-syncs", 5},
	{"mirroring-concurrent-service-endpoint-syncs", 5},
	{"concurrent-namespace-syncs", 10},
	{"concurrent-gc-syncs", 20},
	{"concurrent-serviceaccount-token-syncs", 5},
}

// Default is the configuration without any flag.
func Default() Config {
	c := Config{
		Controllers: []string{"*"}, ClusterName: "kubernetes",
		NodeMonitorGracePeriod: 40 * time.Second, NodeStartupGracePeriod: time.Minute, NodeEvictionRate: 0.1, TerminatedPods: 12500,
		LeaderElect: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ResourceName: "kube-controller-manager", ResourceNamespace: "kube-system", ResourceLock: "leases",
		Autoscaler: defaultAutoscaler(),
		Signing:    map[string]*SigningFiles{"": {}}, SigningDuration: 365 * 24 * time.Hour,
		ScrubImage:  "registry.k8s.io/build-image/debian-base:bookworm-v1.0.6",
		BindAddress: "0.0.0.0", SecurePort: 10257, Workers: map[string]*int{},
	}
	for _, name := range signerFlags {
		c.Signing["kubernetes.io/"+name] = &SigningFiles{}
	}
	for _, w := range workers {
		c.Workers[w.flag] = new(w.n)
	}
	return c
}

// Flags binds the flags onto the configuration.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "kubeconfig with the API server's address and our credentials")
	fs.StringSliceVar(&c.Controllers, "controllers", c.Controllers, "controllers to run: '*' is all, 'name' is one, '-name' is all but this one")
	fs.BoolVar(&c.OwnAccounts, "use-service-account-credentials", c.OwnAccounts, "each controller acts as a service account of kube-system, with the rights of its own role")
	fs.StringSliceVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "range of the pods of all nodes; two for dual stack")
	fs.BoolVar(&c.AllocateNodeCIDRs, "allocate-node-cidrs", c.AllocateNodeCIDRs, "give each node a part of --cluster-cidr")
	fs.IntVar(&c.NodeMask, "node-cidr-mask-size", c.NodeMask, "prefix length of a node's part (24 for IPv4, 64 for IPv6)")
	fs.IntVar(&c.NodeMask4, "node-cidr-mask-size-ipv4", c.NodeMask4, "prefix length of a node's IPv4 part")
	fs.IntVar(&c.NodeMask6, "node-cidr-mask-size-ipv6", c.NodeMask6, "prefix length of a node's IPv6 part")
	fs.StringSliceVar(&c.ServiceCIDR, "service-cluster-ip-range", c.ServiceCIDR, "range of the Services, which no node gets")
	fs.StringVar(&c.RootCAFile, "root-ca-file", c.RootCAFile, "certificate authority for the ConfigMap kube-root-ca.crt of every namespace")
	fs.StringVar(&c.ClusterName, "cluster-name", c.ClusterName, "name of the cluster")
	fs.DurationVar(&c.NodeMonitorGracePeriod, "node-monitor-grace-period", c.NodeMonitorGracePeriod, "silence after which a node is taken for lost")
	fs.DurationVar(&c.NodeStartupGracePeriod, "node-startup-grace-period", c.NodeStartupGracePeriod, "the same for a node that never reported")
	fs.Float64Var(&c.NodeEvictionRate, "node-eviction-rate", c.NodeEvictionRate, "nodes per second and zone that are given up")
	fs.IntVar(&c.TerminatedPods, "terminated-pod-gc-threshold", c.TerminatedPods, "finished pods that are kept; 0 keeps all")
	fs.StringSliceVar(&c.LoadBalancerPool, "load-balancer-pool", c.LoadBalancerPool,
		"addresses for Services of type LoadBalancer, such as 192.0.2.10-192.0.2.20 or fd00::/120")
	fs.StringVar(&c.CloudProvider, "cloud-provider", c.CloudProvider, "external: a cloud's controller manager gives load balancer addresses")
	fs.StringVar(&c.ScrubImage, "volume-scrub-image", c.ScrubImage, "image with /bin/sh and rm, for the pods that empty released volumes")
	fs.BoolVar(&c.KeepAttached, "disable-force-detach-on-timeout", c.KeepAttached, "never detach a volume from a node that is silent and says that it uses it")
	for _, w := range workers {
		fs.IntVar(c.Workers[w.flag], w.flag, *c.Workers[w.flag], "objects that are worked on at a time")
	}
	c.Autoscaler.flags(fs)
	fs.StringVar(&c.ServiceAccountKey, "service-account-private-key-file", c.ServiceAccountKey, "key that signs tokens for Secrets of type kubernetes.io/service-account-token")
	c.signingFlags(fs)
	c.leaderFlags(fs)
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address for health, metrics and debugging")
	fs.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "port for health, metrics and debugging; 0: none")
	fs.StringVar(&c.CertFile, "tls-cert-file", c.CertFile, "serving certificate; without one a self-signed one is made at start")
	fs.StringVar(&c.KeyFile, "tls-private-key-file", c.KeyFile, "key of the serving certificate")
	fs.StringVar(&c.ClientCAFile, "client-ca-file", c.ClientCAFile, "authority of the client certificates that may read metrics")
	daemon.Ignored(fs, ignored...)
}

func (c *Config) leaderFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.LeaderElect, "leader-elect", c.LeaderElect, "work only while holding the Lease")
	fs.DurationVar(&c.LeaseDuration, "leader-elect-lease-duration", c.LeaseDuration, "how long others wait after the last renewal")
	fs.DurationVar(&c.RenewDeadline, "leader-elect-renew-deadline", c.RenewDeadline, "how long the leader goes on without a renewal")
	fs.DurationVar(&c.RetryPeriod, "leader-elect-retry-period", c.RetryPeriod, "time between two tries")
	fs.StringVar(&c.ResourceName, "leader-elect-resource-name", c.ResourceName, "name of the Lease")
	fs.StringVar(&c.ResourceNamespace, "leader-elect-resource-namespace", c.ResourceNamespace, "namespace of the Lease")
	fs.StringVar(&c.ResourceLock, "leader-elect-resource-lock", c.ResourceLock, "kind of the lock: leases, nothing else")
}

// ignored are upstream's flags that have no meaning here.
var ignored = []string{
	"attach-detach-reconcile-sync-period", "disable-attach-detach-reconcile-sync", // nothing is looked at without a reason
	"node-monitor-period",                                   // nodes are judged when their time is up, not every few seconds
	"authentication-kubeconfig", "authorization-kubeconfig", // a client certificate decides who reads metrics
	"authentication-skip-lookup", "authentication-tolerate-lookup-failure", //
	"authorization-always-allow-paths", "requestheader-client-ca-file", //
	"requestheader-allowed-names", "requestheader-extra-headers-prefix", //
	"requestheader-group-headers", "requestheader-username-headers", //
	"kube-api-qps", "kube-api-burst", "kube-api-content-type", "min-resync-period", // the server limits; nothing resyncs
	"contention-profiling", "profiling", "cloud-config", "feature-gates", //
	"pod-eviction-timeout", "enable-taint-manager", "node-sync-period", "port", "address", //
	"large-cluster-size-threshold", "secondary-node-eviction-rate", "unhealthy-zone-threshold",
	"endpoint-updates-batch-period", "endpointslice-updates-batch-period", "max-endpoints-per-slice",
	"configure-cloud-routes", "flex-volume-plugin-dir", "tls-cipher-suites", "tls-min-version", "cert-dir",
	"permit-port-sharing", "permit-address-sharing", "http2-max-streams-per-connection", "enable-garbage-collector", "enable-dynamic-provisioning",
}

// Validate returns all problems.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	c.validateRanges(bad)
	if c.NodeMonitorGracePeriod <= 0 || c.NodeStartupGracePeriod <= 0 {
		bad("--node-monitor-grace-period and --node-startup-grace-period must be positive")
	}
	if c.NodeEvictionRate < 0 {
		bad("--node-eviction-rate: %v is negative", c.NodeEvictionRate)
	}
	for flag, n := range c.Workers {
		if *n < 1 {
			bad("--%s: %d is less than 1", flag, *n)
		}
	}
	if c.LeaderElect && (c.RetryPeriod <= 0 || c.RetryPeriod >= c.RenewDeadline || c.RenewDeadline >= c.LeaseDuration) {
		bad("--leader-elect-retry-period < --leader-elect-renew-deadline < --leader-elect-lease-duration must hold; they are %v, %v, %v",
			c.RetryPeriod, c.RenewDeadline, c.LeaseDuration)
	}
	if c.ResourceLock != "leases" {
		bad("--leader-elect-resource-lock: %q is not supported, only leases", c.ResourceLock)
	}
	if c.SecurePort < 0 || c.SecurePort > 65535 {
		bad("--secure-port: %d is no port", c.SecurePort)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("--tls-cert-file and --tls-private-key-file belong together")
	}
	c.validateSigning(bad)
	c.Autoscaler.validate(bad)
	if c.CloudProvider != "" && c.CloudProvider != "external" {
		bad("--cloud-provider: %q is not supported, only external", c.CloudProvider)
	}
	return errors.Join(errs...)
}

func (c *Config) validateRanges(bad func(string, ...any)) {
	if c.AllocateNodeCIDRs && len(c.ClusterCIDR) == 0 {
		bad("--allocate-node-cidrs needs --cluster-cidr")
	}
	for _, list := range []struct {
		flag   string
		ranges []string
	}{{"cluster-cidr", c.ClusterCIDR}, {"service-cluster-ip-range", c.ServiceCIDR}} {
		six := map[bool]bool{}
		for _, text := range list.ranges {
			p, err := netip.ParsePrefix(strings.TrimSpace(text))
			switch {
			case err != nil:
				bad("--%s: %v", list.flag, err)
			case six[p.Addr().Is6()]:
				bad("--%s: %s: at most one range of each address family", list.flag, text)
			}
			if err == nil {
				six[p.Addr().Is6()] = true
			}
		}
	}
}

// Prefixes parses ranges that Validate has accepted.
func Prefixes(ranges []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range ranges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// MaskFor is the prefix length of a node's part of a range.
func (c Config) MaskFor(p netip.Prefix) int {
	if p.Addr().Is6() {
		return firstSet(c.NodeMask6, c.NodeMask, 64)
	}
	return firstSet(c.NodeMask4, c.NodeMask, 24)
}

func firstSet(values ...int) int {
	for _, v := range values {
		if v != 0 {
			return v
		}
	}
	return 0
}

// WorkersFor is how many objects the flag allows to be worked on at a time.
func (c Config) WorkersFor(flag string) int {
	if n := c.Workers[flag]; n != nil {
		return *n
	}
	return 1
}
