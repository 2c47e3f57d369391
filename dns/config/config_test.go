package config

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		flags string
		want  []string // words of the error; none: valid
	}{
		"a node":                  {"--node-ip=10.0.0.1", nil},
		"another address":         {"--node-ip=10.0.0.1 --listen=127.0.0.1 --port=5353", nil},
		"not published":           {"--publish=false --listen=127.0.0.1", nil},
		"nothing said":            {"", []string{"--node-ip"}},
		"the unspecified address": {"--node-ip=10.0.0.1 --listen=0.0.0.0", []string{"--listen", "name one address"}},
		"all problems at once": {"--node-ip=x --listen=y --cluster-dns=z --upstream=w --cache-size=0 --metrics-bind-address=v --cluster-domain=.",
			[]string{"--node-ip", "--listen", "--cluster-dns", "--upstream", "--cache-size", "--metrics-bind-address", "--cluster-domain"}},
		"upstream with a port":    {"--node-ip=10.0.0.1 --upstream=10.0.0.2:5353,fd00::1", nil},
		"listening on another IP": {"--node-ip=10.0.0.1 --listen=nonsense", []string{"--listen"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
			c.Flags(fs)
			if err := fs.Parse(strings.Fields(test.flags)); err != nil {
				t.Fatal(err)
			}
			if err := c.Complete(); err != nil {
				t.Fatal(err)
			}
			err := c.Validate()
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want a word on %s", err, w)
				}
			}
		})
	}
}
