package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func load(t *testing.T, text string, flags ...string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "scheduler.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Default()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(fs)
	if err := fs.Parse(append(flags, "--config="+file)); err != nil {
		t.Fatal(err)
	}
	return c, c.Complete()
}

func TestFiles(t *testing.T) {
	const kind = "\nkind: KubeSchedulerConfiguration\nclientConnection: {kubeconfig: /k}\nleaderElection: {leaderElect: true}\n"
	for name, test := range map[string]struct{ text, wrong string }{
		"of the guide":            {text: "apiVersion: kubescheduler.config.k8s.io/v1alpha2" + kind},
		"of older guides":         {text: "apiVersion: componentconfig/v1alpha1" + kind},
		"two profiles":            {text: "apiVersion: kubescheduler.config.k8s.io/v1" + kind + "profiles: [{schedulerName: a}, {schedulerName: b}]"},
		"two of one name":         {text: "apiVersion: kubescheduler.config.k8s.io/v1" + kind + "profiles: [{schedulerName: a}, {schedulerName: a}]", wrong: "there twice"},
		"another kind":            {text: "apiVersion: v1\nkind: ConfigMap", wrong: "is v1 ConfigMap"},
		"a field that is not one": {text: "apiVersion: kubescheduler.config.k8s.io/v1" + kind + "speed: 9", wrong: "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, test.text)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("error %v, want one with %q", err, test.wrong)
				}
				return
			}
			if err != nil || c.Kubeconfig != "/k" || !c.LeaderElect {
				t.Errorf("kubeconfig %q, election %v: %v", c.Kubeconfig, c.LeaderElect, err)
			}
		})
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	c, err := load(t, "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection: {kubeconfig: /file}", "--kubeconfig=/flag")
	if err != nil || c.Kubeconfig != "/flag" {
		t.Errorf("kubeconfig %q: %v", c.Kubeconfig, err)
	}
}
