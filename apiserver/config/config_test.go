package config

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// guide is the unit file of Kubernetes the Hard Way, without what cannot be served yet.
const guide = `
  --advertise-address=192.0.2.10
  --allow-privileged=true
  --apiserver-count=3
  --audit-log-maxage=30
  --audit-log-maxbackup=3
  --audit-log-maxsize=100
  --audit-log-path=/var/log/audit.log
  --bind-address=0.0.0.0
  --client-ca-file=/var/lib/kubernetes/ca.pem
  --enable-admission-plugins=NamespaceLifecycle,NodeRestriction,LimitRanger,ServiceAccount,DefaultStorageClass,ResourceQuota
  --encryption-provider-config=/var/lib/kubernetes/encryption-config.yaml
  --etcd-cafile=/var/lib/kubernetes/ca.pem
  --etcd-certfile=/var/lib/kubernetes/kubernetes.pem
  --etcd-keyfile=/var/lib/kubernetes/kubernetes-key.pem
  --etcd-servers=https://192.0.2.10:2379,https://192.0.2.11:2379
  --event-ttl=1h
  --kubelet-certificate-authority=/var/lib/kubernetes/ca.pem
  --kubelet-client-certificate=/var/lib/kubernetes/kubernetes.pem
  --kubelet-client-key=/var/lib/kubernetes/kubernetes-key.pem
  --kubelet-https=true
  --runtime-config=api/all=true
  --service-account-key-file=/var/lib/kubernetes/service-account.pem
  --service-cluster-ip-range=10.32.0.0/24
  --service-node-port-range=30000-32767
  --tls-cert-file=/var/lib/kubernetes/kubernetes.pem
  --tls-private-key-file=/var/lib/kubernetes/kubernetes-key.pem
  --kubelet-preferred-address-types=InternalIP,InternalDNS,Hostname,ExternalIP,ExternalDNS`

func parse(t *testing.T, args string) (*Config, error) {
	t.Helper()
	c := Default()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Bind(fs)
	return c, fs.Parse(strings.Fields(args))
}

func TestTheGuidesFlagsAreKnown(t *testing.T) {
	c, err := parse(t, guide)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if len(c.Etcd.Servers) != 2 || c.Kubelet.Key == "" || c.ServiceRange != "10.32.0.0/24" {
		t.Errorf("got %+v", c)
	}
	if _, err := parse(t, "--no-such-flag=1"); err == nil {
		t.Error("an unknown flag was accepted")
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	needed := " --client-ca-file=ca --tls-cert-file=c --tls-private-key-file=k "
	for args, want := range map[string][]string{
		needed: nil,
		"":     {"--client-ca-file is needed", "--tls-cert-file and --tls-private-key-file are needed"},
		needed + "--authorization-mode=Node,Magic":                {"--authorization-mode"},
		needed + "--runtime-config=api/all=true":                  nil,
		needed + "--runtime-config=batch/v1=false,api/beta=often": {"batch/v1=false: no API version can be left out", "api/beta=often: the value must be true or false"},
		needed + "--encryption-provider-config-automatic-reload":  {"needs --encryption-provider-config"},
		needed + "--service-cluster-ip-range=10.0.0.0/8":          {"must hold between 8 and 1048576 addresses"},
		needed + "--service-cluster-ip-range=x":                   {"--service-cluster-ip-range"},
		needed + "--service-node-port-range=5-1":                  {"--service-node-port-range"},
		needed + "--bind-address=here --secure-port=99999":        {"--bind-address", "--secure-port"},
		needed + "--advertise-address=there":                      {"--advertise-address"},
		needed + "--etcd-certfile=x":                              {"--etcd-certfile and --etcd-keyfile go together"},
		needed + "--etcd-servers=a --etcd-initial-cluster=b":      {"--etcd-servers names an external etcd"},
		needed + "--etcd-data-dir=":                               {"--etcd-data-dir is needed"},
		needed + "--etcd-initial-cluster-state=old":               {"neither new nor existing"},
		needed + "--kubelet-client-key=x":                         {"--kubelet-client-certificate and --kubelet-client-key go together"},
		needed + "--request-timeout=0":                            {"--request-timeout must be positive"},
		needed + "--max-requests-inflight=-1":                     {"must not be negative"},
	} {
		c, err := parse(t, args)
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		err = c.Validate()
		if (err == nil) != (want == nil) {
			t.Errorf("%s: %v", args, err)
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q lacks %q", args, err, part)
			}
		}
	}
}

func TestOutside(t *testing.T) {
	for args, want := range map[string]string{
		"--authorization-mode=Node,RBAC,Webhook":                                    "--authorization-webhook-config-file is needed",
		"--authorization-webhook-config-file=/w":                                    "needs Webhook among --authorization-mode",
		"--authorization-mode=Webhook --authorization-webhook-config-file=/w":       "",
		"--authorization-config=/c":                                                 "",
		"--authorization-config=/c --authorization-mode=RBAC":                       "--authorization-config excludes",
		"--authentication-config=/c --oidc-issuer-url=https://a --oidc-client-id=b": "exclude each other",
		"--oidc-issuer-url=https://a":                                               "go together",
		"--oidc-issuer-url=https://a --oidc-client-id=b --oidc-required-claim=x=y":  "",
		"--authentication-token-webhook-version=v2":                                 "is neither v1 nor v1beta1",
		"--authentication-token-webhook-cache-ttl=-1s":                              "less than no time",
	} {
		c, err := parse(t, guide+" "+args)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
