package config

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	proxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"
)

// read puts a KubeProxyConfiguration file onto c. Unknown fields are errors, and so are fields that ask for what the proxy does not do; fields
// that only tune upstream's way of doing it are warnings.
func (c *Config) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	var f proxyv1alpha1.KubeProxyConfiguration
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	if f.Kind != "KubeProxyConfiguration" || f.APIVersion != proxyv1alpha1.SchemeGroupVersion.String() {
		return fmt.Errorf("configuration %s: got %s, kind %s; want %s, kind KubeProxyConfiguration", path, f.APIVersion, f.Kind, proxyv1alpha1.SchemeGroupVersion)
	}
	if err := refused(&f); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	c.take(&f)
	c.warn(&f)
	return nil
}

// refused reports what the file asks for and the proxy cannot do.
func refused(f *proxyv1alpha1.KubeProxyConfiguration) error {
	var problems []error
	if m := f.DetectLocalMode; m != "" && m != "ClusterCIDR" {
		problems = append(problems, fmt.Errorf("detectLocalMode %q is not supported, only ClusterCIDR", m))
	}
	if f.DetectLocal != (proxyv1alpha1.DetectLocalConfiguration{}) {
		problems = append(problems, errors.New("detectLocal is not supported: detectLocalMode is always ClusterCIDR"))
	}
	if f.WindowsRunAsService || f.Winkernel != (proxyv1alpha1.KubeProxyWinkernelConfiguration{}) {
		problems = append(problems, errors.New("winkernel and windowsRunAsService are not supported"))
	}
	return errors.Join(problems...)
}

// take copies what has a meaning here.
func (c *Config) take(f *proxyv1alpha1.KubeProxyConfiguration) {
	given(&c.Kubeconfig, f.ClientConnection.Kubeconfig)
	given(&c.NodeName, f.HostnameOverride)
	given(&c.HealthzAddress, withPort(f.HealthzBindAddress, "10256"))
	given(&c.MetricsAddress, withPort(f.MetricsBindAddress, "10249"))
	given(&c.ClusterCIDR, f.ClusterCIDR)
	given(&c.NodePortAddresses, strings.Join(f.NodePortAddresses, ","))
	c.OOMScoreAdj = f.OOMScoreAdj
	c.proxyMode = string(f.Mode)
	// The section of the mode that was asked for holds the settings that any mode has.
	bit, all, period := f.IPTables.MasqueradeBit, f.IPTables.MasqueradeAll, f.IPTables.SyncPeriod
	if f.Mode == "nftables" {
		bit, all, period = f.NFTables.MasqueradeBit, f.NFTables.MasqueradeAll, f.NFTables.SyncPeriod
	}
	if bit != nil {
		c.MasqueradeBit = *bit
	}
	c.MasqueradeAll = all
	given(&c.SyncPeriod, period.Duration)
	c.Conntrack = conntrackOf(&f.Conntrack)
}

func conntrackOf(f *proxyv1alpha1.KubeProxyConntrackConfiguration) Conntrack {
	out := Conntrack{TCPBeLiberal: f.TCPBeLiberal}
	if f.MaxPerCore != nil && *f.MaxPerCore > 0 {
		limit := int(*f.MaxPerCore) * runtime.NumCPU()
		if f.Min != nil {
			limit = max(limit, int(*f.Min))
		}
		out.Max = &limit
	}
	for _, t := range []struct {
		to   **time.Duration
		from *metav1.Duration
	}{
		{&out.TCPEstablishedTimeout, f.TCPEstablishedTimeout}, {&out.TCPCloseWaitTimeout, f.TCPCloseWaitTimeout},
		{&out.UDPTimeout, &f.UDPTimeout}, {&out.UDPStreamTimeout, &f.UDPStreamTimeout},
	} {
		if t.from != nil && t.from.Duration > 0 {
			*t.to = &t.from.Duration
		}
	}
	return out
}

// warn notes the fields that were set and change nothing.
func (c *Config) warn(f *proxyv1alpha1.KubeProxyConfiguration) {
	for _, w := range []struct {
		set bool
		say string
	}{
		{len(f.FeatureGates) > 0, "featureGates: there are none here"},
		{f.ClientConnection.QPS != 0 || f.ClientConnection.Burst != 0, "clientConnection.qps and burst: requests are not limited at the client"},
		{f.ClientConnection.ContentType != "" || f.ClientConnection.AcceptContentTypes != "", "clientConnection content types: protobuf is always used"},
		{f.BindAddress != "" && f.BindAddress != "0.0.0.0", "bindAddress: nothing depends on it"},
		{f.BindAddressHardFail, "bindAddressHardFail: a port that cannot be opened is always fatal"},
		{f.EnableProfiling, "enableProfiling: /debug/pprof is always there, for the machine itself"},
		{f.IPTables.MinSyncPeriod.Duration+f.NFTables.MinSyncPeriod.Duration+f.IPVS.MinSyncPeriod.Duration > 0, "minSyncPeriod: changes are written as they come"},
		{f.IPTables.LocalhostNodePorts != nil && *f.IPTables.LocalhostNodePorts, "iptables.localhostNodePorts: node ports are never served on loopback"},
		{f.IPVS.Scheduler != "" || f.IPVS.StrictARP || len(f.IPVS.ExcludeCIDRs) > 0, "ipvs: its settings mean nothing to nftables"},
		{f.ConfigSyncPeriod.Duration > 0, "configSyncPeriod: changes are watched, never polled"},
		{f.PortRange != "", "portRange: upstream does not use it either"},
		{f.ShowHiddenMetricsForVersion != "", "showHiddenMetricsForVersion: no metrics are hidden"},
		{f.Logging.Format != "" || f.Logging.Verbosity != 0, "logging: use --logging-format and --v"},
	} {
		if w.set {
			c.Warnings = append(c.Warnings, w.say)
		}
	}
}

// given sets what was said.
func given[T comparable](to *T, value T) {
	var nothing T
	if value != nothing {
		*to = value
	}
}

// withPort lets an address stand without its port, as upstream does.
func withPort(address, port string) string {
	if address != "" && !strings.Contains(address, ":") {
		return address + ":" + port
	}
	return address
}
