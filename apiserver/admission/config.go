package admission

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// Config is what --admission-control-config-file says: the configuration of each plugin that it names, as JSON or YAML.
// Nil says nothing.
type Config map[string][]byte

// configVersions are the versions in which an AdmissionConfiguration may be written.
var configVersions = []string{"apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"}

// OpenConfig reads a file. A plugin's configuration stands in it, or in another file that it names.
func OpenConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read admission configuration: %w", err)
	}
	var doc struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Plugins    []struct {
			Name          string          `json:"name"`
			Path          string          `json:"path"`
			Configuration json.RawMessage `json:"configuration"`
		} `json:"plugins"`
	}
	if err := yaml.UnmarshalStrict(data, &doc); err != nil {
		return nil, fmt.Errorf("read admission configuration %s: %w", path, err)
	}
	if doc.Kind != "AdmissionConfiguration" || !slices.Contains(configVersions, doc.APIVersion) {
		return nil, fmt.Errorf("read admission configuration %s: an AdmissionConfiguration of %s is wanted, not %s %s", path, configVersions[0], doc.APIVersion, doc.Kind)
	}
	out := Config{}
	for _, p := range doc.Plugins {
		if _, twice := out[p.Name]; twice {
			return nil, fmt.Errorf("read admission configuration %s: the plugin %q is configured twice", path, p.Name)
		}
		text := []byte(p.Configuration)
		if p.Path != "" {
			if !filepath.IsAbs(p.Path) {
				p.Path = filepath.Join(filepath.Dir(path), p.Path)
			}
			if text, err = os.ReadFile(p.Path); err != nil {
				return nil, fmt.Errorf("read configuration of the admission plugin %s: %w", p.Name, err)
			}
		}
		out[p.Name] = text
	}
	return out, nil
}

// Decode reads a plugin's configuration into a value, strictly, and checks its kind. Without one the value stays as it is.
func (c Config) Decode(plugin, kind string, into any) error {
	text := c[plugin]
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	err := yaml.UnmarshalStrict(text, into)
	var doc struct {
		Kind string `json:"kind"`
	}
	if err == nil {
		err = yaml.Unmarshal(text, &doc)
	}
	if err == nil && kind != "" && doc.Kind != kind {
		err = fmt.Errorf("a %s is wanted, not %q", kind, doc.Kind)
	}
	if err != nil {
		return fmt.Errorf("configuration of the admission plugin %s: %w", plugin, err)
	}
	return nil
}
