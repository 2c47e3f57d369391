// Package config is what the scheduler can be told: flags with upstream's names, and a KubeSchedulerConfiguration file
// onto which given flags are laid.
package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"hardway/scheduler/queue"
	"hardway/shared/daemon"
	"hardway/shared/reconcile"
)

// Config is the scheduler's configuration. Default gives it its defaults.
type Config struct {
	File        string // of kind KubeSchedulerConfiguration
	Kubeconfig  string // how to reach the apiserver
	LeaderElect bool   // true
	Election    reconcile.Election
	Queue       queue.Options
	Profiles    []schedulerv1.KubeSchedulerProfile // one of default-scheduler, with the default plugins
	Extenders   []schedulerv1.Extender             // others that are asked over HTTP; none

	// Sampling says that the file has a percentageOfNodesToScore, which means nothing here: all nodes are looked at.
	Sampling bool

	BindAddress string // of the port for health and metrics; 0.0.0.0
	SecurePort  int    // 10259; 0: none
	TLSCert     string // self-signed when empty
	TLSKey      string
	ClientCA    string // whose clients may read metrics

	flags *pflag.FlagSet
}

// Default is a configuration that needs only a kubeconfig.
func Default() *Config {
	return &Config{
		Profiles: []schedulerv1.KubeSchedulerProfile{{}}, LeaderElect: true, BindAddress: "0.0.0.0", SecurePort: 10259,
		Election: reconcile.Election{
			Namespace: "kube-system", Name: "kube-scheduler",
			Lease: 15 * time.Second, Renew: 10 * time.Second, Retry: 2 * time.Second,
		},
	}
}

// ignored are upstream's flags that mean nothing here.
var ignored = []string{
	"allow-metric-labels", "allow-metric-labels-manifest", "authentication-kubeconfig", "authentication-skip-lookup",
	"authentication-token-webhook-cache-ttl", "authentication-tolerate-lookup-failure", "authorization-always-allow-paths",
	"authorization-kubeconfig", "authorization-webhook-cache-authorized-ttl", "authorization-webhook-cache-unauthorized-ttl",
	"cert-dir", "contention-profiling", "disabled-metrics", "feature-gates", "http2-max-streams-per-connection",
	"kube-api-burst", "kube-api-content-type", "kube-api-qps", "leader-elect-resource-lock", "log-flush-frequency", "master",
	"permit-address-sharing", "permit-port-sharing", "profiling", "requestheader-allowed-names",
	"requestheader-client-ca-file", "requestheader-extra-headers-prefix", "requestheader-group-headers",
	"requestheader-uid-headers", "requestheader-username-headers", "show-hidden-metrics-for-version", "tls-cipher-suites",
	"tls-min-version", "tls-sni-cert-key", "vmodule", "emulated-version",
}

// Flags binds the configuration to flags.
func (c *Config) Flags(fs *pflag.FlagSet) {
	c.flags = fs
	fs.StringVar(&c.File, "config", c.File, "file of kind KubeSchedulerConfiguration; flags that are given win over it")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "kubeconfig file: how to reach the apiserver")
	fs.BoolVar(&c.LeaderElect, "leader-elect", c.LeaderElect, "work only while holding the Lease, of several schedulers")
	fs.DurationVar(&c.Election.Lease, "leader-elect-lease-duration", c.Election.Lease, "how long others wait for a silent leader")
	fs.DurationVar(&c.Election.Renew, "leader-elect-renew-deadline", c.Election.Renew, "how long the leader works on without a renewal")
	fs.DurationVar(&c.Election.Retry, "leader-elect-retry-period", c.Election.Retry, "time between two tries to get or renew the Lease")
	fs.StringVar(&c.Election.Name, "leader-elect-resource-name", c.Election.Name, "name of the Lease")
	fs.StringVar(&c.Election.Namespace, "leader-elect-resource-namespace", c.Election.Namespace, "namespace of the Lease")
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address of the port for health and metrics")
	fs.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "HTTPS port for health and metrics; 0 for none")
	fs.StringVar(&c.TLSCert, "tls-cert-file", c.TLSCert, "certificate of that port; self-signed when not given")
	fs.StringVar(&c.TLSKey, "tls-private-key-file", c.TLSKey, "key of --tls-cert-file")
	fs.StringVar(&c.ClientCA, "client-ca-file", c.ClientCA, "CA whose clients may read metrics")
	daemon.Ignored(fs, ignored...)
}

// Complete reads the file, if there is one, below the flags, and returns all that is wrong.
func (c *Config) Complete() error {
	if c.File != "" {
		given := map[string]string{}
		c.flags.Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
		if err := c.load(c.File); err != nil {
			return err
		}
		for name, value := range given { // the file may have overwritten them
			if err := c.flags.Set(name, value); err != nil {
				return err
			}
		}
	}
	return c.validate()
}

func (c *Config) validate() error {
	var all []error
	bad := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if c.Kubeconfig == "" {
		bad("--kubeconfig is needed (or clientConnection.kubeconfig in --config)")
	}
	if c.SecurePort < 0 || c.SecurePort > 65535 {
		bad("--secure-port %d is no port", c.SecurePort)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("--tls-cert-file and --tls-private-key-file belong together")
	}
	if e := c.Election; c.LeaderElect && (e.Lease <= e.Renew || e.Renew <= e.Retry || e.Retry <= 0) {
		bad("--leader-elect-lease-duration %s must exceed the renew deadline %s, and that the retry period %s", e.Lease, e.Renew, e.Retry)
	}
	seen := map[string]bool{}
	for i, p := range c.Profiles {
		name := corev1.DefaultSchedulerName
		if p.SchedulerName != nil {
			name = *p.SchedulerName
		}
		if name == "" || seen[name] {
			bad("profiles[%d].schedulerName: %q is empty or there twice", i, name)
		}
		seen[name] = true
	}
	return errors.Join(all...)
}

// Fresh is how old a decision may be when it is carried out: so long, no other scheduler can have taken the lead.
func (c *Config) Fresh() time.Duration {
	if !c.LeaderElect {
		return 0
	}
	return c.Election.Lease - c.Election.Renew
}
