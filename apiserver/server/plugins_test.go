package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"hardway/apiserver/admission"
	"hardway/apiserver/authz"
	"hardway/apiserver/authz/rbac"
	"hardway/apiserver/config"
	"hardway/apiserver/kinds"
	"hardway/apiserver/registry"
	"hardway/apiserver/store"
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

// TestPluginRows makes every plugin, to see that it bears the name by which it is asked for.
func TestPluginRows(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte("clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &wiring{
		access: &access{look: &lookup{}, roles: rbac.New(), authorizer: authz.AlwaysDeny{}},
		set:    registry.NewSet(registry.Options{Kinds: kinds.All(), Store: store.New(nil, store.Options{Prefix: "/registry"}), Log: zap.NewNop()}),
		conf: admission.Config{
			"ImagePolicyWebhook": []byte("imagePolicy: {kubeConfigFile: " + path + "}"),
			"EventRateLimit":     []byte("kind: Configuration\nlimits: [{type: Server, qps: 1, burst: 1}]"),
		},
	}
	seen := map[string]bool{}
	for _, r := range pluginRows {
		if seen[r.name] {
			t.Errorf("%s stands there twice", r.name)
		}
		seen[r.name] = true
		if r.make == nil {
			continue
		}
		p, err := r.make(w)
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
		} else if p.Name() != r.name {
			t.Errorf("%s makes %s", r.name, p.Name())
		}
	}
}
