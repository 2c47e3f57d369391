package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load parses flags with a file beneath them.
func load(t *testing.T, file string, flags ...string) (*Config, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--config="+path)
	}
	c := Default()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	if err := c.Complete(); err != nil {
		return nil, err
	}
	return c, c.Validate()
}

const head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func TestGuideFile(t *testing.T) {
	c, err := load(t, head+`clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig}
mode: iptables
clusterCIDR: 10.200.0.0/16
`, "--hostname-override=Worker-0")
	if err != nil {
		t.Fatal(err)
	}
	if c.Kubeconfig != "/var/lib/kube-proxy/kubeconfig" || c.ClusterCIDR != "10.200.0.0/16" || c.NodeName != "worker-0" || c.HealthzAddress != "0.0.0.0:10256" {
		t.Errorf("got %+v", c)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "iptables") {
		t.Errorf("warnings %q, want one about the mode", c.Warnings)
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	c, err := load(t, head+"clusterCIDR: 10.200.0.0/16\nhealthzBindAddress: 127.0.0.1\nnftables: {masqueradeBit: 3, syncPeriod: 5s}\nmode: nftables\nnodePortAddresses: [10.0.0.0/8, 192.168.0.0/16]\n",
		"--cluster-cidr=10.100.0.0/16,fd00::/64")
	if err != nil {
		t.Fatal(err)
	}
	if c.ClusterCIDR != "10.100.0.0/16,fd00::/64" || c.HealthzAddress != "127.0.0.1:10256" || c.MasqueradeBit != 3 || c.SyncPeriod != 5*time.Second ||
		c.NodePortAddresses != "10.0.0.0/8,192.168.0.0/16" {
		t.Errorf("got %+v", c)
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		file  string
		flags []string
		want  []string
	}{
		"unknown field":     {head + "clusterCDIR: 10.0.0.0/8", nil, []string{"clusterCDIR"}},
		"another kind":      {"apiVersion: v1\nkind: ConfigMap\n", nil, []string{"kind KubeProxyConfiguration"}},
		"unsupported mode":  {head + "mode: kernelspace", nil, []string{`mode "kernelspace"`}},
		"detection of pods": {head + "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: hw0}", nil, []string{"detectLocalMode", "detectLocal is"}},
		"all problems at once": {"", []string{"--cluster-cidr=x", "--nodeport-addresses=y", "--healthz-bind-address=z", "--nftables-sync-period=0"},
			[]string{"cluster CIDR", "node port addresses", "healthz", "sync period"}},
		"no such file": {"", []string{"--config=/nowhere"}, []string{"/nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.file, test.flags...)
			for _, w := range test.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want a word on %s", err, w)
				}
			}
		})
	}
}

func TestConntrackSettings(t *testing.T) {
	c, err := load(t, head+"conntrack: {maxPerCore: 1, min: 131072, tcpEstablishedTimeout: 24h0m0s, udpTimeout: 0s}")
	if err != nil {
		t.Fatal(err)
	}
	if c.Conntrack.Max == nil || *c.Conntrack.Max != 131072 || *c.Conntrack.TCPEstablishedTimeout != 24*time.Hour || c.Conntrack.UDPTimeout != nil {
		t.Errorf("got %+v", c.Conntrack)
	}
}
