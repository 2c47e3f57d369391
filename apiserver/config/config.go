// Package config holds what the apiserver can be told: one struct, its defaults, its flags and its checks.
//
// Flags have upstream's names where upstream has the thing. Flags of upstream that mean nothing here are accepted with
// a warning (ignored); those whose silence would weaken a cluster are refused with a sentence (Validate).
package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/allocate"
	"hardway/shared/daemon"
)

// Config is everything the apiserver can be told.
type Config struct {
	// BindAddress and Port are where the API is served; port 0 takes a free one.
	BindAddress string
	Port        int
	// AdvertiseAddress is where other members of the cluster reach this server. Default: the bind address, or the
	// first address of the machine that is not its loopback's.
	AdvertiseAddress string
	// AddressFile is a file to write the address to that is really served, host:port; empty for none.
	AddressFile string

	// CertFile and KeyFile are the server's certificate.
	CertFile, KeyFile string
	// ClientCA signs the certificates of clients.
	ClientCA string

	Access Access
	Audit  Audit

	Etcd Etcd

	// ServiceRange is where Services get their addresses from; NodePorts is the range of their node ports, first
	// and last.
	ServiceRange string
	NodePorts    string

	Kubelet Kubelet

	// Versions are API versions that are asked for or, "false", asked to be left out: see Validate.
	Versions map[string]string

	// AllowPrivileged lets pods have privileged containers.
	AllowPrivileged bool
	// EncryptionConfig is the file that says how objects are encrypted at rest; empty: they are not. It is read again
	// when it changes if EncryptionReload.
	EncryptionConfig string
	EncryptionReload bool

	// MaxReads and MaxWrites bound the requests in flight; long-running ones are not counted. 0: no bound.
	// With Fairness their sum is what priority levels share.
	MaxReads, MaxWrites int
	// Fairness shares the server out by FlowSchemas and PriorityLevelConfigurations.
	Fairness bool
	// RequestTimeout bounds a request that is not long-running; MinWatch is the least time before a watch is ended.
	RequestTimeout time.Duration
	MinWatch       int // seconds
	// ShutdownDelay is how long a server that is told to stop goes on to serve while /readyz fails, so that load
	// balancers notice before connections are refused.
	ShutdownDelay time.Duration
	// GoawayChance is how likely an HTTP/2 client is asked to connect anew, for each request.
	GoawayChance float64
}

// Etcd says where things are kept: in the embedded member, or with Servers in an external cluster.
type Etcd struct {
	// Servers are the URLs of an external cluster; empty: the embedded member.
	Servers []string
	// Overrides are kinds that lie in an etcd of their own, group/resource#server;server.
	Overrides []string
	// EventTTL is how long Events are kept.
	EventTTL time.Duration
	// CA, Cert and Key are the files for TLS with etcd, on both sides of it.
	CA, Cert, Key string
	// Prefix is where everything lies in etcd.
	Prefix string
	// Compaction is how old revisions may become before they are dropped; 0 keeps all.
	Compaction time.Duration

	// The rest is for the embedded member: where it keeps its data, what it is called, where it listens for clients
	// such as etcdctl and for other members, and what it needs to know to form or join a cluster.
	DataDir                                    string
	Name                                       string
	ListenClient, ListenPeer, AdvertisePeer    []string
	InitialCluster, InitialState, ClusterToken string
	Quota                                      int64
}

// Kubelet says how to reach the node agents.
type Kubelet struct {
	// CA signs the agents' serving certificates; Cert and Key are what this server shows them.
	CA, Cert, Key string
	// AddressTypes are the kinds of node address to try, in order.
	AddressTypes []string
}

// Default returns the configuration of a server that is told nothing.
func Default() *Config {
	return &Config{
		BindAddress: "0.0.0.0", Port: 6443,
		Access:       defaultAccess(),
		Audit:        defaultAudit(),
		Etcd:         Etcd{Prefix: "/registry", Compaction: 5 * time.Minute, EventTTL: time.Hour, DataDir: "/var/lib/hardway/etcd", Name: "hardway", InitialState: "new"},
		ServiceRange: "10.32.0.0/24", NodePorts: "30000-32767",
		Kubelet:         Kubelet{AddressTypes: []string{"InternalIP", "InternalDNS", "Hostname", "ExternalIP", "ExternalDNS"}},
		AllowPrivileged: true,
		Fairness:        true,
		MaxReads:        400, MaxWrites: 200, RequestTimeout: time.Minute, MinWatch: 1800,
	}
}

// Bind puts the flags onto the configuration.
func (c *Config) Bind(fs *pflag.FlagSet) {
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address to serve the API on")
	fs.IntVar(&c.Port, "secure-port", c.Port, "port to serve the API on; 0 takes a free one")
	fs.StringVar(&c.AdvertiseAddress, "advertise-address", "", "address at which others reach this server (default: the bind address, or this machine's)")
	fs.StringVar(&c.AddressFile, "address-file", "", "file to write the served address to, host:port")
	fs.StringVar(&c.CertFile, "tls-cert-file", "", "file of the serving certificate")
	fs.StringVar(&c.KeyFile, "tls-private-key-file", "", "file of the serving certificate's key")
	fs.StringVar(&c.ClientCA, "client-ca-file", "", "file of the CA that signs clients' certificates")
	fs.StringVar(&c.ServiceRange, "service-cluster-ip-range", c.ServiceRange, "range of the Services' addresses")
	fs.StringVar(&c.NodePorts, "service-node-port-range", c.NodePorts, "range of the Services' node ports")
	fs.StringToStringVar(&c.Versions, "runtime-config", nil, "API versions to serve, as version=true; all are served, and none can be left out")
	fs.BoolVar(&c.AllowPrivileged, "allow-privileged", c.AllowPrivileged, "allow privileged containers")
	fs.StringVar(&c.EncryptionConfig, "encryption-provider-config", "", "file that says how objects are encrypted at rest (default: not at all)")
	fs.StringVar(&c.EncryptionConfig, "experimental-encryption-provider-config", "", "old name of --encryption-provider-config")
	fs.BoolVar(&c.EncryptionReload, "encryption-provider-config-automatic-reload", false, "read --encryption-provider-config again when it has changed")
	fs.BoolVar(&c.Fairness, "enable-priority-and-fairness", c.Fairness, "share the server out by FlowSchemas and PriorityLevelConfigurations")
	fs.IntVar(&c.MaxReads, "max-requests-inflight", c.MaxReads, "reads in flight at most, 0 for no bound")
	fs.IntVar(&c.MaxWrites, "max-mutating-requests-inflight", c.MaxWrites, "writes in flight at most, 0 for no bound")
	fs.DurationVar(&c.RequestTimeout, "request-timeout", c.RequestTimeout, "deadline of a request that is not meant to last")
	fs.IntVar(&c.MinWatch, "min-request-timeout", c.MinWatch, "seconds that a watch lasts at least; each gets up to twice as much")
	fs.DurationVar(&c.ShutdownDelay, "shutdown-delay-duration", 0, "time to go on serving after being told to stop, while /readyz fails")
	fs.Float64Var(&c.GoawayChance, "goaway-chance", 0, "chance that an HTTP/2 client is asked to connect anew, for each request: at most 0.02")
	c.Access.bind(fs)
	c.Audit.bind(fs)
	c.BindEtcd(fs)
	c.bindKubelet(fs)
	daemon.Ignored(fs, ignored...)
}

// BindEtcd puts the flags about etcd onto the configuration.
func (c *Config) BindEtcd(fs *pflag.FlagSet) {
	e := &c.Etcd
	fs.StringSliceVar(&e.Servers, "etcd-servers", nil, "URLs of an external etcd (default: the embedded one)")
	fs.StringSliceVar(&e.Overrides, "etcd-servers-overrides", nil, "kinds that lie in an etcd of their own, such as /events#https://10.0.0.1:2379;https://10.0.0.2:2379")
	fs.DurationVar(&e.EventTTL, "event-ttl", e.EventTTL, "how long Events are kept")
	fs.StringVar(&e.CA, "etcd-cafile", "", "file of the CA of etcd's certificates")
	fs.StringVar(&e.Cert, "etcd-certfile", "", "file of the certificate for etcd")
	fs.StringVar(&e.Key, "etcd-keyfile", "", "file of that certificate's key")
	fs.StringVar(&e.Prefix, "etcd-prefix", e.Prefix, "prefix of all keys in etcd")
	fs.DurationVar(&e.Compaction, "etcd-compaction-interval", e.Compaction, "age at which old revisions are dropped, 0 for never")
	fs.StringVar(&e.DataDir, "etcd-data-dir", e.DataDir, "directory of the embedded etcd")
	fs.StringVar(&e.Name, "etcd-name", e.Name, "name of the embedded etcd among others")
	fs.StringSliceVar(&e.ListenClient, "etcd-listen-client-urls", nil, "URLs on which the embedded etcd serves clients such as etcdctl (default: none)")
	fs.StringSliceVar(&e.ListenPeer, "etcd-listen-peer-urls", nil, "URLs on which the embedded etcd talks to other members (default: none, it is alone)")
	fs.StringSliceVar(&e.AdvertisePeer, "etcd-initial-advertise-peer-urls", nil, "URLs at which other members reach the embedded etcd")
	fs.StringVar(&e.InitialCluster, "etcd-initial-cluster", "", "all members of the embedded etcd's cluster: name=url,...")
	fs.StringVar(&e.InitialState, "etcd-initial-cluster-state", e.InitialState, "new, or existing to join a cluster")
	fs.StringVar(&e.ClusterToken, "etcd-initial-cluster-token", "", "keeps clusters apart that were made from the same members")
	fs.Int64Var(&e.Quota, "etcd-quota-backend-bytes", 0, "bytes that may be in use in the embedded etcd: beyond, nothing may grow (default 8 GiB)")
}

func (c *Config) bindKubelet(fs *pflag.FlagSet) {
	k := &c.Kubelet
	fs.StringVar(&k.CA, "kubelet-certificate-authority", "", "file of the CA of the node agents' certificates")
	fs.StringVar(&k.Cert, "kubelet-client-certificate", "", "file of the certificate shown to node agents")
	fs.StringVar(&k.Key, "kubelet-client-key", "", "file of that certificate's key")
	fs.StringSliceVar(&k.AddressTypes, "kubelet-preferred-address-types", k.AddressTypes, "kinds of node address to try, in order")
}

// ignored are flags of upstream that mean nothing here, or nothing yet.
var ignored = []string{
	"apiserver-count", "kubelet-https", "kubelet-timeout",
	"audit-log-format", "audit-log-version", "audit-webhook-version",
	"service-account-lookup", "proxy-client-cert-file", "proxy-client-key-file", "enable-aggregator-routing",
	"storage-backend", "storage-media-type", "watch-cache", "default-watch-cache-size", "watch-cache-sizes",
	"profiling", "feature-gates", "endpoint-reconciler-type",
}

// Validate returns all that is wrong, joined.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if net.ParseIP(c.BindAddress) == nil {
		bad("--bind-address: %q is no IP address", c.BindAddress)
	}
	if c.Port < 0 || c.Port > 65535 {
		bad("--secure-port: %d is no port", c.Port)
	}
	if c.AdvertiseAddress != "" && net.ParseIP(c.AdvertiseAddress) == nil {
		bad("--advertise-address: %q is no IP address", c.AdvertiseAddress)
	}
	if c.CertFile == "" || c.KeyFile == "" {
		bad("--tls-cert-file and --tls-private-key-file are needed")
	}
	if c.ClientCA == "" {
		bad("--client-ca-file is needed: without it nobody can log in")
	}
	for _, version := range slices.Sorted(maps.Keys(c.Versions)) {
		switch on := c.Versions[version]; on {
		case "true", "":
		case "false":
			bad("--runtime-config: %s=false: no API version can be left out, all are served", version)
		default:
			bad("--runtime-config: %s=%s: the value must be true or false", version, on)
		}
	}
	if c.EncryptionReload && c.EncryptionConfig == "" {
		bad("--encryption-provider-config-automatic-reload needs --encryption-provider-config")
	}
	if r, err := netip.ParsePrefix(c.ServiceRange); err != nil {
		bad("--service-cluster-ip-range: %w", err)
	} else if r.Addr().BitLen()-r.Bits() > 20 || r.Addr().BitLen()-r.Bits() < 3 {
		bad("--service-cluster-ip-range: %s must hold between 8 and 1048576 addresses", r)
	}
	if _, err := allocate.ParsePortRange(c.NodePorts); err != nil {
		bad("--service-node-port-range: %w", err)
	}
	if (c.Kubelet.Cert == "") != (c.Kubelet.Key == "") {
		bad("--kubelet-client-certificate and --kubelet-client-key go together")
	}
	if c.RequestTimeout <= 0 {
		bad("--request-timeout must be positive")
	}
	if c.ShutdownDelay < 0 {
		bad("--shutdown-delay-duration must not be negative")
	}
	if c.GoawayChance < 0 || c.GoawayChance > 0.02 {
		bad("--goaway-chance must lie between 0 and 0.02: each is a new connection")
	}
	if c.Etcd.Compaction < 0 {
		bad("--etcd-compaction-interval must not be negative")
	}
	if c.MaxReads < 0 || c.MaxWrites < 0 || c.MinWatch < 0 {
		bad("--max-requests-inflight, --max-mutating-requests-inflight and --min-request-timeout must not be negative")
	}
	errs = append(errs, c.Access.validate()...)
	errs = append(errs, c.Audit.validate()...)
	errs = append(errs, c.Etcd.validate()...)
	return errors.Join(errs...)
}

func (e *Etcd) validate() []error {
	var errs []error
	if (e.Cert == "") != (e.Key == "") {
		errs = append(errs, errors.New("--etcd-certfile and --etcd-keyfile go together"))
	}
	if len(e.Servers) == 0 && e.DataDir == "" {
		errs = append(errs, errors.New("--etcd-data-dir is needed without --etcd-servers"))
	}
	for _, text := range e.Overrides {
		if _, err := ParseOverride(text); err != nil {
			errs = append(errs, err)
		}
	}
	if e.EventTTL < time.Second {
		errs = append(errs, errors.New("--event-ttl must be a second at least"))
	}
	if e.InitialState != "new" && e.InitialState != "existing" {
		errs = append(errs, fmt.Errorf("--etcd-initial-cluster-state: %q is neither new nor existing", e.InitialState))
	}
	if len(e.Servers) > 0 && (len(e.ListenClient) > 0 || len(e.ListenPeer) > 0 || e.InitialCluster != "") {
		errs = append(errs, errors.New("--etcd-servers names an external etcd: the flags of the embedded one do not go with it"))
	}
	return errs
}

// Override is a kind that lies in an etcd of its own.
type Override struct {
	Kind    schema.GroupResource
	Servers []string
}

// ParseOverride reads one part of --etcd-servers-overrides: group/resource#server;server.
func ParseOverride(text string) (Override, error) {
	kind, servers, found := strings.Cut(text, "#")
	group, plural, slash := strings.Cut(kind, "/")
	if !found || !slash || plural == "" || servers == "" {
		return Override{}, fmt.Errorf("--etcd-servers-overrides: %q is not group/resource#server;server", text)
	}
	return Override{schema.GroupResource{Group: group, Resource: plural}, strings.Split(servers, ";")}, nil
}
