// Package config is what an operator may say to the name server.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Config is the whole configuration.
type Config struct {
	// File is a configuration in CoreDNS's language, read again when it changes; empty: the flags say all.
	File       string
	Kubeconfig string // empty: in-cluster
	NodeName   string // default: the host name
	NodeIP     string // this node's InternalIP; default for Listen and what is published
	Listen     string // address to serve on; default: NodeIP
	Port       uint16 // default 53
	// Domain is the cluster domain. Default cluster.local.
	Domain string
	// ClusterDNS is the cluster IP of the kube-dns Service, which is created if it is missing. Default 10.32.0.10.
	ClusterDNS string
	Publish    bool     // publish the Service and this server's endpoint; default yes
	Upstream   []string // servers for all other names: address or address:port; default: those of ResolvConf
	ResolvConf string   // default /etc/resolv.conf
	// CacheSize is how many answers are remembered. Default 20000, about 10 MB when full.
	CacheSize int
	// MaxForward is how many questions may be under way to upstream servers. Default 1000.
	MaxForward     int
	HealthAddress  string // /health; default :8080
	ReadyAddress   string // /ready; default :8181
	MetricsAddress string // /metrics; default :9153
}

// Default is the configuration when nothing is said.
func Default() *Config {
	return &Config{Port: 53, Domain: "cluster.local", ClusterDNS: "10.32.0.10", Publish: true, ResolvConf: "/etc/resolv.conf", CacheSize: 20000,
		MaxForward: 1000, HealthAddress: ":8080", ReadyAddress: ":8181", MetricsAddress: ":9153"}
}

// Flags binds the configuration to flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.File, "config", c.File, "Corefile with what is answered and where the rest is forwarded, read again when it changes")
	fs.StringVar(&c.File, "conf", c.File, "the same, as CoreDNS calls it")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "path of a kubeconfig file; without one, the pod's own service account is used")
	fs.StringVar(&c.NodeName, "hostname-override", c.NodeName, "name of this machine's Node (default: the host name)")
	fs.StringVar(&c.NodeIP, "node-ip", c.NodeIP, "this node's address: where pods reach the server")
	fs.StringVar(&c.Listen, "listen", c.Listen, "address to serve on (default: --node-ip)")
	fs.Uint16Var(&c.Port, "port", c.Port, "port to serve on, UDP and TCP")
	fs.StringVar(&c.Domain, "cluster-domain", c.Domain, "domain of the cluster's names")
	fs.StringVar(&c.ClusterDNS, "cluster-dns", c.ClusterDNS, "cluster IP of the Service kube-system/kube-dns, created if it is missing")
	fs.BoolVar(&c.Publish, "publish", c.Publish, "publish the Service and this server's endpoint")
	fs.StringSliceVar(&c.Upstream, "upstream", c.Upstream, "servers for all other names, address or address:port (default: those of --resolv-conf)")
	fs.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "file with the servers for all other names, read again when it changes")
	fs.IntVar(&c.CacheSize, "cache-size", c.CacheSize, "how many answers are remembered")
	fs.IntVar(&c.MaxForward, "max-forward", c.MaxForward, "how many questions may be under way to upstream servers; more fail at once")
	fs.StringVar(&c.HealthAddress, "health-bind-address", c.HealthAddress, "address of /health; empty: none")
	fs.StringVar(&c.ReadyAddress, "ready-bind-address", c.ReadyAddress, "address of /ready; empty: none")
	fs.StringVar(&c.MetricsAddress, "metrics-bind-address", c.MetricsAddress, "address of /metrics; empty: none")
}

// Complete fills in what depends on the machine and on other settings.
func (c *Config) Complete() error {
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host name: %w", err)
		}
		c.NodeName = name
	}
	c.NodeName = strings.ToLower(strings.TrimSpace(c.NodeName))
	if c.Listen == "" {
		c.Listen = c.NodeIP
	}
	return nil
}

// Validate reports all problems.
func (c *Config) Validate() error {
	var problems []error
	address := func(flag, text string, needed bool) {
		a, err := netip.ParseAddr(text)
		switch {
		case text == "" && !needed:
		case err != nil:
			problems = append(problems, fmt.Errorf("--%s %q: not an address", flag, text))
		case a.IsUnspecified():
			problems = append(problems, fmt.Errorf("--%s %s: name one address of this machine, so that answers come from where the question went", flag, a))
		}
	}
	address("node-ip", c.NodeIP, c.Publish)
	if c.Listen != c.NodeIP || !c.Publish {
		address("listen", c.Listen, true)
	}
	address("cluster-dns", c.ClusterDNS, c.Publish)
	if strings.Trim(c.Domain, ".") == "" {
		problems = append(problems, errors.New("--cluster-domain must not be empty"))
	}
	if c.File != "" && len(c.Upstream) > 0 {
		problems = append(problems, errors.New("--upstream: the forward lines of --config say it"))
	}
	for _, u := range c.Upstream {
		host, _, err := net.SplitHostPort(u)
		if err != nil {
			host = u
		}
		address("upstream", host, true)
	}
	if c.CacheSize < 1 || c.MaxForward < 1 {
		problems = append(problems, errors.New("--cache-size and --max-forward must be at least 1"))
	}
	for flag, a := range map[string]string{"health": c.HealthAddress, "ready": c.ReadyAddress, "metrics": c.MetricsAddress} {
		if _, _, err := net.SplitHostPort(a); a != "" && err != nil {
			problems = append(problems, fmt.Errorf("--%s-bind-address: %w", flag, err))
		}
	}
	return errors.Join(problems...)
}

// Address is where the server listens; the configuration is valid.
func (c *Config) Address() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(c.Listen), c.Port)
}
