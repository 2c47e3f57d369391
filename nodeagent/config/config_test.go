package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

const good = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: ca.pem}}
tlsCertFile: /abs/node.pem
tlsPrivateKeyFile: node-key.pem
`

// load parses flags and a file.
func load(t *testing.T, file string, flags ...string) (*Config, error) {
	t.Helper()
	c := Default()
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	c.AddFlags(fs)
	if file != "" {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--config="+path)
	}
	if err := fs.Parse(append(flags, "--kubeconfig=k", "--hostname-override=N1")); err != nil {
		return c, err
	}
	return c, c.Load()
}

func TestDefaults(t *testing.T) {
	c, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	k := c.Kubelet
	if c.Hostname != "n1" || k.Port != 10250 || *k.HealthzPort != 10248 || k.MaxPods != 110 || k.ClusterDomain != "cluster.local" || !*k.RegisterNode ||
		k.CgroupRoot != "hardway" || k.NodeStatusReportFrequency.Duration != 5*time.Minute || c.LinksDir() != "/var/log/containers" || !*k.SeccompDefault {
		t.Errorf("%+v", k)
	}
	if k.TLSCertFile != "/abs/node.pem" || filepath.Base(k.TLSPrivateKeyFile) != "node-key.pem" || !filepath.IsAbs(k.TLSPrivateKeyFile) {
		t.Errorf("paths are relative to the file: %s %s", k.TLSCertFile, k.TLSPrivateKeyFile)
	}
}

func TestFlagsWin(t *testing.T) {
	c, err := load(t, good+"port: 1\nclusterDNS: [1.1.1.1]\nregisterNode: true\nregisterWithTaints: [{key: a, effect: NoSchedule}]\n",
		"--port=2", "--cluster-dns=2.2.2.2", "--register-node=false", "--register-with-taints=b=c:NoExecute", "--node-labels=x=y,z=")
	if err != nil {
		t.Fatal(err)
	}
	k := c.Kubelet
	if k.Port != 2 || k.ClusterDNS[0] != "2.2.2.2" || *k.RegisterNode || len(k.RegisterWithTaints) != 2 || k.RegisterWithTaints[1].Value != "c" || c.Labels["x"] != "y" {
		t.Errorf("%+v %v", k, c.Labels)
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		file  string
		flags []string
		want  string
	}{
		"unknown field":   {good + "nonsense: 1\n", nil, `unknown field "nonsense"`},
		"doubled field":   {good + "port: 1\nport: 2\n", nil, `key "port" already set`},
		"wrong type":      {good + "port: many\n", nil, "port"},
		"another kind":    {strings.Replace(good, "KubeletConfiguration", "Other", 1), nil, "must be kubelet.config.k8s.io/v1beta1 KubeletConfiguration"},
		"unknown flag":    {good, []string{"--nonsense"}, "unknown flag"},
		"no certificate":  {strings.Replace(good, "tlsCertFile: /abs/node.pem\n", "", 1), nil, "tlsCertFile and tlsPrivateKeyFile are needed"},
		"no CA":           {strings.Replace(good, "ca.pem", `""`, 1), nil, "clientCAFile is needed"},
		"anonymous":       {strings.Replace(good, "{x509", "{anonymous: {enabled: true}, x509", 1), nil, "anonymous.enabled: true is not supported"},
		"read-only port":  {good + "readOnlyPort: 10255\n", nil, "readOnlyPort is not supported"},
		"static pods":     {good + "staticPodPath: x\n", nil, "must be an absolute path"},
		"bad taint":       {good, []string{"--register-with-taints=a:Sometimes"}, "is not key=value:effect"},
		"bad address":     {good, []string{"--node-ip=x"}, `"x" is not an IP address`},
		"bad range":       {good, []string{"--pod-cidr=10.0.0.0"}, "podCIDR"},
		"bad delay":       {good + "crashLoopBackOff: {maxContainerRestartPeriod: 10m}\n", nil, "between 1s and 5m"},
		"bad quantity":    {good + "systemReserved: {memory: lots}\n", nil, `"lots" is not a quantity`},
		"relative folder": {good, []string{"--root-dir=x"}, "absolute path"},
		"unknown mode":    {good + "authorization: {mode: Maybe}\n", nil, `authorization.mode "Maybe" is unknown`},
	} {
		_, err := load(t, tc.file, tc.flags...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := load(t, good+"readOnlyPort: 1\nmaxPods: -1\n", "--node-ip=x")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}

func TestUnusedFieldsAreNamed(t *testing.T) {
	c, err := load(t, good+`evictionHard: {memory.available: 1Gi}
cgroupDriver: systemd
failSwapOn: false
serializeImagePulls: false
containerRuntimeEndpoint: unix:///x
authorization: {mode: Webhook}
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Unused, ", "); got != "cgroupDriver, containerRuntimeEndpoint" {
		t.Errorf("%s", got)
	}
}

func TestUpstreamFlagsWithoutMeaning(t *testing.T) {
	if _, err := load(t, good, "--container-runtime=remote", "--container-runtime-endpoint=unix:///run/containerd/containerd.sock", "--image-pull-progress-deadline=2m", "--network-plugin=cni"); err != nil {
		t.Error(err)
	}
}

func TestReserved(t *testing.T) {
	c, err := load(t, good+"systemReserved: {memory: 1Gi}\nkubeReserved: {memory: 512Mi, cpu: 100m}\n")
	if err != nil {
		t.Fatal(err)
	}
	r := c.Reserved()
	if r.Memory().Value() != 1536<<20 || r.Cpu().MilliValue() != 100 {
		t.Errorf("%v", r)
	}
}
