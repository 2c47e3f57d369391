package podsecurity

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/pod-security-admission/api"

	"hardway/apiserver/admission"
)

// Config is upstream's PodSecurityConfiguration.
type Config struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Defaults   Defaults   `json:"defaults"`
	Exemptions Exemptions `json:"exemptions"`
}

// Defaults hold for namespaces without labels of their own. An empty level is privileged, an empty version the latest.
type Defaults struct {
	Enforce        string `json:"enforce"`
	EnforceVersion string `json:"enforce-version"`
	Audit          string `json:"audit"`
	AuditVersion   string `json:"audit-version"`
	Warn           string `json:"warn"`
	WarnVersion    string `json:"warn-version"`
}

// Exemptions name users, namespaces and runtime classes that nothing is asked of.
type Exemptions struct {
	Usernames      []string `json:"usernames"`
	Namespaces     []string `json:"namespaces"`
	RuntimeClasses []string `json:"runtimeClasses"`
}

// configVersions are the versions in which the configuration may be written.
var configVersions = []string{"", "pod-security.admission.config.k8s.io/v1", "pod-security.admission.config.k8s.io/v1beta1", "pod-security.admission.config.k8s.io/v1alpha1"}

// readConfig reads the plugin's part of the admission configuration.
func readConfig(from admission.Config) (*Config, api.Policy, error) {
	c := &Config{}
	if err := from.Decode(name, "PodSecurityConfiguration", c); err != nil {
		return nil, api.Policy{}, err
	}
	var errs []error
	if !slices.Contains(configVersions, c.APIVersion) {
		errs = append(errs, fmt.Errorf("apiVersion: %q is unknown", c.APIVersion))
	}
	level := func(at, levelText, versionText string) (lv api.LevelVersion) {
		lv = api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
		var err error
		if levelText != "" {
			if lv.Level, err = api.ParseLevel(levelText); err != nil {
				errs = append(errs, fmt.Errorf("defaults.%s: %q: %w", at, levelText, err))
			}
		}
		if versionText != "" {
			if lv.Version, err = api.ParseVersion(versionText); err != nil {
				errs = append(errs, fmt.Errorf("defaults.%s-version: %q: %w", at, versionText, err))
			}
		}
		return lv
	}
	d := c.Defaults
	policy := api.Policy{
		Enforce: level("enforce", d.Enforce, d.EnforceVersion),
		Audit:   level("audit", d.Audit, d.AuditVersion),
		Warn:    level("warn", d.Warn, d.WarnVersion),
	}
	e := c.Exemptions
	errs = append(errs, checkNames("usernames", e.Usernames, func(string) []string { return nil })...)
	errs = append(errs, checkNames("namespaces", e.Namespaces, validation.IsDNS1123Label)...)
	errs = append(errs, checkNames("runtimeClasses", e.RuntimeClasses, validation.IsDNS1123Subdomain)...)
	if err := errors.Join(errs...); err != nil {
		return nil, policy, fmt.Errorf("configuration of the admission plugin %s: %w", name, err)
	}
	return c, policy, nil
}

func checkNames(at string, names []string, check func(string) []string) (errs []error) {
	for i, n := range names {
		switch problems := check(n); {
		case n == "":
			errs = append(errs, fmt.Errorf("exemptions.%s[%d]: must not be empty", at, i))
		case len(problems) > 0:
			errs = append(errs, fmt.Errorf("exemptions.%s[%d]: %q: %s", at, i, n, problems[0]))
		case slices.Contains(names[:i], n):
			errs = append(errs, fmt.Errorf("exemptions.%s[%d]: %q stands there twice", at, i, n))
		}
	}
	return errs
}
