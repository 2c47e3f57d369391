package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Configuration is upstream's AuthenticationConfiguration.
type Configuration struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	JWT        []Issuer   `json:"jwt"`
	Anonymous  *Anonymous `json:"anonymous"`
}

// Anonymous says whether requests without a proof are let through, and with conditions, to which paths.
type Anonymous struct {
	Enabled    bool        `json:"enabled"`
	Conditions []Condition `json:"conditions"`
}

// Condition is one path.
type Condition struct {
	Path string `json:"path"`
}

// Issuer is one issuer of tokens, and how its claims become users.
type Issuer struct {
	Issuer struct {
		URL                  string   `json:"url"`
		DiscoveryURL         string   `json:"discoveryURL"`
		CertificateAuthority string   `json:"certificateAuthority"` // PEM
		Audiences            []string `json:"audiences"`
		AudienceMatchPolicy  string   `json:"audienceMatchPolicy"`
		EgressSelectorType   string   `json:"egressSelectorType"`
	} `json:"issuer"`
	ClaimRules []ClaimRule `json:"claimValidationRules"`
	Mappings   Mappings    `json:"claimMappings"`
	UserRules  []UserRule  `json:"userValidationRules"`

	// Algorithms are those that signatures may have; empty: all with public keys.
	Algorithms []string `json:"-"`
}

// ClaimRule is a claim that must have a value, or an expression over "claims" that must be true.
type ClaimRule struct {
	Claim         string `json:"claim"`
	RequiredValue string `json:"requiredValue"`
	Expression    string `json:"expression"`
	Message       string `json:"message"`
}

// UserRule is an expression over "user" that must be true.
type UserRule struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

// Mappings say what in the claims is what of the user.
type Mappings struct {
	Username Mapping   `json:"username"`
	Groups   Mapping   `json:"groups"`
	UID      Mapping   `json:"uid"`
	Extra    []Mapping `json:"extra"`
}

// Mapping is a claim with a prefix, or an expression over "claims". Key and ValueExpression are for extra alone, Prefix
// for names and groups.
type Mapping struct {
	Claim           string  `json:"claim"`
	Prefix          *string `json:"prefix"`
	Expression      string  `json:"expression"`
	Key             string  `json:"key"`
	ValueExpression string  `json:"valueExpression"`
}

var configVersions = []string{"apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"}

// Load reads a file and checks it. None of the issuers may be one of the cluster's own.
func Load(path string, own []string) (*Configuration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authentication configuration: %w", err)
	}
	c := &Configuration{}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return nil, fmt.Errorf("read authentication configuration %s: %w", path, err)
	}
	var errs []error
	if c.Kind != "AuthenticationConfiguration" || !slices.Contains(configVersions, c.APIVersion) {
		errs = append(errs, fmt.Errorf("an AuthenticationConfiguration of %s is wanted, not %s %s", configVersions[0], c.APIVersion, c.Kind))
	}
	for i := range c.JWT {
		at := fmt.Sprintf("jwt[%d]", i)
		errs = append(errs, within(at, c.JWT[i].check(own))...)
		if slices.ContainsFunc(c.JWT[:i], func(o Issuer) bool { return o.Issuer.URL == c.JWT[i].Issuer.URL }) {
			errs = append(errs, fmt.Errorf("%s.issuer.url: %q stands there twice", at, c.JWT[i].Issuer.URL))
		}
	}
	if a := c.Anonymous; a != nil {
		if !a.Enabled && len(a.Conditions) > 0 {
			errs = append(errs, errors.New("anonymous.conditions: need enabled: true"))
		}
		for i, condition := range a.Conditions {
			if !strings.HasPrefix(condition.Path, "/") {
				errs = append(errs, fmt.Errorf("anonymous.conditions[%d].path: %q does not begin with /", i, condition.Path))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("authentication configuration %s: %w", path, err)
	}
	return c, nil
}

// within puts the place in front of errors.
func within(at string, errs []error) []error {
	for i, err := range errs {
		errs[i] = fmt.Errorf("%s.%w", at, err)
	}
	return errs
}

// check says what is wrong with an issuer, but for its expressions.
func (c *Issuer) check(own []string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !secure(c.Issuer.URL) {
		bad("issuer.url: %q is not an https URL without user, query and fragment", c.Issuer.URL)
	}
	if slices.Contains(own, c.Issuer.URL) {
		bad("issuer.url: %q issues this cluster's service account tokens", c.Issuer.URL)
	}
	if d := c.Issuer.DiscoveryURL; d != "" && (!secure(d) || strings.TrimRight(d, "/") == strings.TrimRight(c.Issuer.URL, "/")) {
		bad("issuer.discoveryURL: %q is not an https URL, or the issuer's own", d)
	}
	if len(c.Issuer.Audiences) == 0 || slices.Contains(c.Issuer.Audiences, "") {
		bad("issuer.audiences: at least one is needed, and none may be empty")
	}
	if p := c.Issuer.AudienceMatchPolicy; p != "MatchAny" && (p != "" || len(c.Issuer.Audiences) > 1) {
		bad("issuer.audienceMatchPolicy: MatchAny is needed with several audiences, and there is no other")
	}
	if t := c.Issuer.EgressSelectorType; t != "" {
		bad("issuer.egressSelectorType: there are no egress selectors here")
	}
	for i, r := range c.ClaimRules {
		switch {
		case (r.Claim == "") == (r.Expression == ""):
			bad("claimValidationRules[%d]: either claim or expression is needed", i)
		case r.Claim != "" && r.Message != "", r.Expression != "" && r.RequiredValue != "":
			bad("claimValidationRules[%d]: message goes with expression, requiredValue with claim", i)
		}
	}
	for i, r := range c.UserRules {
		if r.Expression == "" {
			bad("userValidationRules[%d].expression: is needed", i)
		}
	}
	return append(errs, within("claimMappings", c.Mappings.check(c))...)
}

func secure(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// unverified finds expressions that rely on claims.email.
var unverified = regexp.MustCompile(`claims\.email\b`)

func (m *Mappings) check(c *Issuer) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	prefixed := func(at string, one Mapping, needed bool) {
		switch {
		case one.Claim != "" && one.Expression != "", needed && one.Claim == "" && one.Expression == "":
			bad("%s: either claim or expression is needed", at)
		case one.Claim != "" && one.Prefix == nil:
			bad("%s.prefix: is needed with claim; it may be empty", at)
		case one.Claim == "" && one.Prefix != nil:
			bad("%s.prefix: goes with claim", at)
		}
	}
	prefixed("username", m.Username, true)
	prefixed("groups", m.Groups, false)
	if m.UID.Claim != "" && m.UID.Expression != "" {
		bad("uid: either claim or expression")
	}
	texts := []string{m.Username.Expression}
	for i, e := range m.Extra {
		domain, _, has := strings.Cut(e.Key, "/")
		switch {
		case !has || e.Key != strings.ToLower(e.Key) || len(validation.IsDomainPrefixedPath(nil, e.Key)) > 0:
			bad("extra[%d].key: %q is not a path below a domain, in small letters", i, e.Key)
		case reserved(domain, "k8s.io"), reserved(domain, "kubernetes.io"):
			bad("extra[%d].key: %q is reserved", i, e.Key)
		case slices.ContainsFunc(m.Extra[:i], func(o Mapping) bool { return o.Key == e.Key }):
			bad("extra[%d].key: %q stands there twice", i, e.Key)
		}
		if e.ValueExpression == "" {
			bad("extra[%d].valueExpression: is needed", i)
		}
		texts = append(texts, e.ValueExpression)
	}
	for _, r := range c.ClaimRules {
		texts = append(texts, r.Expression)
	}
	if all := strings.Join(texts, "\n"); unverified.MatchString(m.Username.Expression) && !strings.Contains(all, "claims.email_verified") {
		bad("username.expression: who uses claims.email must look at claims.email_verified, there, in extra or in claimValidationRules")
	}
	return errs
}

func reserved(domain, by string) bool { return domain == by || strings.HasSuffix(domain, "."+by) }
