package admission

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestConfig(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
	for name, c := range map[string]struct{ text, want string }{
		"inside":       {head + "plugins: [{name: Brake, configuration: {kind: Rates, limit: 7}}]", ""},
		"in a file":    {head + "plugins: [{name: Brake, path: brake.yaml}]", ""},
		"nothing":      {head, "limit 0"},
		"a typo":       {head + "plugin: []", "unknown field"},
		"a typo in it": {head + "plugins: [{name: Brake, configuration: {kind: Rates, limits: 7}}]", "configuration of the admission plugin Brake: "},
		"another kind": {head + "plugins: [{name: Brake, configuration: {kind: Rate, limit: 7}}]", `a Rates is wanted, not "Rate"`},
		"twice":        {head + "plugins: [{name: Brake}, {name: Brake}]", `the plugin "Brake" is configured twice`},
		"no such file": {head + "plugins: [{name: Brake, path: gone.yaml}]", "read configuration of the admission plugin Brake: open "},
		"another form": {"apiVersion: v1\nkind: Pod", "an AdmissionConfiguration of apiserver.config.k8s.io/v1 is wanted, not v1 Pod"},
		"no YAML":      {"{", "read admission configuration "},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"c.yaml": c.text, "brake.yaml": "kind: Rates\nlimit: 7\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		conf, err := OpenConfig(filepath.Join(dir, "c.yaml"))
		var into struct {
			metav1.TypeMeta `json:",inline"`
			Limit           int `json:"limit"`
		}
		if err == nil {
			err = conf.Decode("Brake", "Rates", &into)
		}
		switch {
		case err != nil:
			if c.want == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		case c.want == "" && into.Limit != 7, c.want == "limit 0" && into.Limit != 0, c.want != "" && c.want != "limit 0":
			t.Errorf("%s: limit %d, want %q", name, into.Limit, c.want)
		}
	}
}
