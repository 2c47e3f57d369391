package server

import (
	"strings"
	"testing"

	"hardway/apiserver/admission"
	"hardway/apiserver/config"
)

func TestCheckPlugins(t *testing.T) {
	for name, c := range map[string]struct {
		on, off []string
		conf    admission.Config
		want    string
	}{
		"the guide's list":       {[]string{"NamespaceLifecycle", "NodeRestriction", "LimitRanger", "ServiceAccount", "DefaultStorageClass", "ResourceQuota"}, nil, nil, ""},
		"off":                    {nil, []string{"ResourceQuota"}, nil, ""},
		"on, unknown":            {[]string{"Nonsense"}, nil, nil, `--enable-admission-plugins: the plugin "Nonsense" is unknown`},
		"off, unknown":           {nil, []string{"Nonsense"}, nil, `--disable-admission-plugins: the plugin "Nonsense" is unknown`},
		"on and off":             {[]string{"LimitRanger"}, []string{"LimitRanger"}, nil, `"LimitRanger" is both enabled and disabled`},
		"configured, unknown":    {nil, nil, admission.Config{"Nonsense": nil}, `--admission-control-config-file: the plugin "Nonsense" is unknown`},
		"the guard of roles":     {nil, []string{"RBACEscalation"}, nil, `the plugin "RBACEscalation" is unknown`},
		"all wrong, all is said": {[]string{"A"}, []string{"B"}, nil, `"B" is unknown`},
	} {
		err := checkPlugins(&config.Access{Enable: c.on, Disable: c.off}, c.conf)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
