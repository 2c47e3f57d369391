// Package config is what an operator may say to the proxy: flags, and a KubeProxyConfiguration file beneath them.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hardway/shared/daemon"
)

// Config is the whole configuration. Flags win over the file, the file over the defaults.
type Config struct {
	File       string // path of a KubeProxyConfiguration; empty: none
	Kubeconfig string // empty: in-cluster
	NodeName   string // default: the host name
	// ClusterCIDR holds the pods' networks, separated by commas. Traffic to cluster IPs from elsewhere is masqueraded. Default: none, and then
	// no traffic to cluster IPs is.
	ClusterCIDR string
	// NodePortAddresses holds networks separated by commas, or "primary" for the node's own InternalIP. Default: all addresses of the node.
	NodePortAddresses string
	MasqueradeAll     bool
	MasqueradeBit     int32  // bit of the packet mark, 0 to 31; default 14
	HealthzAddress    string // default 0.0.0.0:10256; empty: none
	MetricsAddress    string // default 127.0.0.1:10249; empty: none
	// SyncPeriod is how long the kernel may stay behind the API before /healthz says so: twice this. Default 30s.
	SyncPeriod       time.Duration
	AllowExternalIPs bool // serve spec.externalIPs; default no
	// LoadBalancerLink is the link on which this node announces addresses of load balancers: its name, or an address that it has. Default: none,
	// and then nothing is announced.
	LoadBalancerLink string
	Ingress          Ingress
	Cleanup          bool // remove the tables and exit
	OOMScoreAdj      *int32
	Conntrack        Conntrack

	// Warnings are things that were accepted and mean nothing here, or something else than upstream. They are logged at start.
	Warnings []string

	proxyMode string
	flags     *pflag.FlagSet
}

// Ingress says how requests from outside are served on nodes with the label "hardway/ingress".
type Ingress struct {
	Kubeconfig  string // of the identity that may read certificates; empty: Ingresses are not served
	HTTPAddress string // default 0.0.0.0:80; empty: none
	// HTTPSAddress is where TLS is spoken; default 0.0.0.0:443; empty: none.
	HTTPSAddress string
	// Certificate is "namespace/name" of a Secret, for hosts without one of their own. Default: one that is signed by itself.
	Certificate string
	AccessLog   bool // a line of the log for each request; default true
}

// Conntrack holds kernel settings. Nil leaves a setting as it is.
type Conntrack struct {
	Max                   *int // entries
	TCPEstablishedTimeout *time.Duration
	TCPCloseWaitTimeout   *time.Duration
	UDPTimeout            *time.Duration
	UDPStreamTimeout      *time.Duration
	TCPBeLiberal          bool // false leaves it as it is
}

// Default is the configuration when nothing is said.
func Default() *Config {
	return &Config{
		MasqueradeBit:  14,
		HealthzAddress: "0.0.0.0:10256",
		MetricsAddress: "127.0.0.1:10249",
		SyncPeriod:     30 * time.Second,
		Ingress:        Ingress{HTTPAddress: "0.0.0.0:80", HTTPSAddress: "0.0.0.0:443", AccessLog: true},
	}
}

// Flags binds the configuration to flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	c.flags = fs
	fs.StringVar(&c.File, "config", c.File, "path of a KubeProxyConfiguration file; flags win over it")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "path of a kubeconfig file; without one, the pod's own service account is used")
	fs.StringVar(&c.NodeName, "hostname-override", c.NodeName, "name of this machine's Node (default: the host name)")
	fs.StringVar(&c.ClusterCIDR, "cluster-cidr", c.ClusterCIDR, "networks of the pods, separated by commas: traffic to cluster IPs from elsewhere is masqueraded")
	fs.StringVar(&c.NodePortAddresses, "nodeport-addresses", c.NodePortAddresses, "networks of the addresses that offer node ports, or 'primary' (default: all but loopback)")
	fs.BoolVar(&c.MasqueradeAll, "masquerade-all", c.MasqueradeAll, "masquerade all traffic to cluster IPs")
	for _, name := range []string{"nftables-masquerade-bit", "iptables-masquerade-bit"} {
		fs.Int32Var(&c.MasqueradeBit, name, c.MasqueradeBit, "bit of the packet mark that asks for masquerading, 0 to 31")
	}
	fs.StringVar(&c.HealthzAddress, "healthz-bind-address", c.HealthzAddress, "address and port of /healthz and /livez; empty: none")
	fs.StringVar(&c.MetricsAddress, "metrics-bind-address", c.MetricsAddress, "address and port of /metrics; empty: none")
	fs.DurationVar(&c.SyncPeriod, "nftables-sync-period", c.SyncPeriod, "the proxy is unhealthy when the kernel is behind the API for twice this time")
	fs.BoolVar(&c.AllowExternalIPs, "allow-external-ips", c.AllowExternalIPs, "serve spec.externalIPs of Services: who may write a Service may then take over any address")
	fs.StringVar(&c.LoadBalancerLink, "load-balancer-link", c.LoadBalancerLink, "announce addresses of load balancers on this link, given by its name or by an address that it has; empty: announce none")
	in := &c.Ingress
	fs.StringVar(&in.Kubeconfig, "ingress-kubeconfig", in.Kubeconfig, "serve Ingresses while this Node has the label hardway/ingress, and read them and their certificates with this kubeconfig file; empty: do not")
	fs.StringVar(&in.HTTPAddress, "ingress-http-address", in.HTTPAddress, "address and port for HTTP; empty: none")
	fs.StringVar(&in.HTTPSAddress, "ingress-https-address", in.HTTPSAddress, "address and port for HTTPS; empty: none")
	fs.StringVar(&in.Certificate, "ingress-default-certificate", in.Certificate, "namespace/name of the TLS Secret for hosts without one (default: a certificate signed by itself)")
	fs.BoolVar(&in.AccessLog, "ingress-access-log", in.AccessLog, "log each request")
	fs.BoolVar(&c.Cleanup, "cleanup", c.Cleanup, "remove the nftables tables and exit")
	fs.StringVar(&c.proxyMode, "proxy-mode", c.proxyMode, "nftables; iptables and ipvs are accepted and mean nftables")
	daemon.Ignored(fs, "bind-address", "bind-address-hard-fail", "burst", "cleanup-and-exit", "config-sync-period", "conntrack-max-per-core", "conntrack-min",
		"conntrack-tcp-be-liberal", "conntrack-tcp-timeout-close-wait", "conntrack-tcp-timeout-established", "conntrack-udp-timeout", "conntrack-udp-timeout-stream",
		"feature-gates", "iptables-localhost-nodeports", "iptables-min-sync-period", "iptables-sync-period", "init-only",
		"ipvs-exclude-cidrs", "ipvs-min-sync-period", "ipvs-scheduler", "ipvs-strict-arp", "ipvs-sync-period", "ipvs-tcp-timeout", "ipvs-tcpfin-timeout",
		"ipvs-udp-timeout", "kube-api-burst", "kube-api-content-type", "kube-api-qps", "log-flush-frequency", "nftables-min-sync-period",
		"oom-score-adj", "pod-bridge-interface", "pod-interface-name-prefix", "profiling", "proxy-port-range", "show-hidden-metrics-for-version", "vmodule")
}

// Complete reads the file, puts the flags that were given over it, and fills in what depends on the machine.
func (c *Config) Complete() error {
	if c.File != "" {
		under := Default()
		if err := under.read(c.File); err != nil {
			return err
		}
		if err := under.overlay(c.flags); err != nil {
			return err
		}
		*c = *under
	}
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host name: %w", err)
		}
		c.NodeName = name
	}
	c.NodeName = strings.ToLower(strings.TrimSpace(c.NodeName))
	return c.mode(c.proxyMode)
}

// overlay sets the flags that were given on c.
func (c *Config) overlay(given *pflag.FlagSet) error {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(own)
	var failures []error
	given.Visit(func(f *pflag.Flag) {
		if own.Lookup(f.Name) != nil {
			failures = append(failures, own.Set(f.Name, f.Value.String()))
		}
	})
	return errors.Join(failures...)
}

// mode accepts upstream's modes; there is one here.
func (c *Config) mode(m string) error {
	switch m {
	case "", "nftables":
		return nil
	case "iptables", "ipvs":
		c.Warnings = append(c.Warnings, fmt.Sprintf("mode %q is served by nftables; so is every mode", m))
		return nil
	}
	return fmt.Errorf("mode %q: supported are nftables, and iptables and ipvs, which mean nftables", m)
}

// Validate reports all problems.
func (c *Config) Validate() error {
	var problems []error
	if _, err := Prefixes(c.ClusterCIDR); err != nil {
		problems = append(problems, fmt.Errorf("cluster CIDR: %w", err))
	}
	if c.NodePortAddresses != Primary {
		if _, err := Prefixes(c.NodePortAddresses); err != nil {
			problems = append(problems, fmt.Errorf("node port addresses: %w", err))
		}
	}
	if c.MasqueradeBit < 0 || c.MasqueradeBit > 31 {
		problems = append(problems, fmt.Errorf("masquerade bit %d: must be within 0 and 31", c.MasqueradeBit))
	}
	if c.SyncPeriod <= 0 {
		problems = append(problems, fmt.Errorf("sync period %v: must be greater than 0", c.SyncPeriod))
	}
	for what, a := range map[string]string{"healthz": c.HealthzAddress, "metrics": c.MetricsAddress, "ingress HTTP": c.Ingress.HTTPAddress, "ingress HTTPS": c.Ingress.HTTPSAddress} {
		if _, _, err := net.SplitHostPort(a); a != "" && err != nil {
			problems = append(problems, fmt.Errorf("%s bind address: %w", what, err))
		}
	}
	if namespace, name, ok := strings.Cut(c.Ingress.Certificate, "/"); c.Ingress.Certificate != "" && (!ok || namespace == "" || name == "" || strings.Contains(name, "/")) {
		problems = append(problems, fmt.Errorf("ingress default certificate %q: must be namespace/name of a Secret", c.Ingress.Certificate))
	}
	return errors.Join(problems...)
}

// Primary as NodePortAddresses means the node's own InternalIP.
const Primary = "primary"

// Prefixes parses networks separated by commas.
func Prefixes(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
