package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func parse(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	c := Default()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return c, c.Validate()
}

// TestGuide parses the flags of the unit files of the hard-way guide.
func TestGuide(t *testing.T) {
	c, err := parse(t, "--bind-address=0.0.0.0", "--cluster-cidr=10.200.0.0/16", "--allocate-node-cidrs=true", "--cluster-name=kubernetes", "--cluster-signing-cert-file=/x/ca.crt",
		"--cluster-signing-key-file=/x/ca.key", "--kubeconfig=/x/kube-controller-manager.kubeconfig", "--leader-elect=true", "--root-ca-file=/x/ca.crt",
		"--service-account-private-key-file=/x/sa.key", "--service-cluster-ip-range=10.32.0.0/24", "--use-service-account-credentials=true", "--authentication-kubeconfig=/x", "--authorization-kubeconfig", "/x")
	if err != nil {
		t.Fatal(err)
	}
	if c.Kubeconfig != "/x/kube-controller-manager.kubeconfig" || !c.AllocateNodeCIDRs || c.ClusterCIDR[0] != "10.200.0.0/16" || c.SecurePort != 10257 {
		t.Errorf("%+v", c)
	}
}

func TestValidateSaysEverything(t *testing.T) {
	_, err := parse(t, "--allocate-node-cidrs", "--service-cluster-ip-range=nonsense", "--concurrent-gc-syncs=0", "--leader-elect-renew-deadline=20s", "--secure-port=70000",
		"--tls-cert-file=x", "--leader-elect-resource-lock=endpoints", "--node-monitor-grace-period=0s", "--node-eviction-rate=-1")
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"--allocate-node-cidrs needs", "nonsense", "--concurrent-gc-syncs", "renew-deadline", "70000", "belong together", "endpoints", "grace-period", "eviction-rate"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("does not speak of %s: %v", part, err)
		}
	}
	if _, err := parse(t, "--cluster-cidr=10.0.0.0/16,10.1.0.0/16"); err == nil {
		t.Error("two ranges of one family are accepted")
	}
}

func TestValues(t *testing.T) {
	c, err := parse(t, "--cluster-cidr=10.0.0.0/16,fd00::/56", "--node-cidr-mask-size-ipv6=72", "--node-monitor-grace-period=5s", "--concurrent-gc-syncs=3")
	if err != nil {
		t.Fatal(err)
	}
	p := Prefixes(c.ClusterCIDR)
	if c.MaskFor(p[0]) != 24 || c.MaskFor(p[1]) != 72 || p[0] != netip.MustParsePrefix("10.0.0.0/16") {
		t.Errorf("masks %d, %d", c.MaskFor(p[0]), c.MaskFor(p[1]))
	}
	if c.NodeMonitorGracePeriod != 5*time.Second || c.WorkersFor("concurrent-gc-syncs") != 3 || c.WorkersFor("concurrent-deployment-syncs") != 5 {
		t.Errorf("%+v", c)
	}
}
