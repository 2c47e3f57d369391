// Package configuration reads an AuthorizationConfiguration: the list of authorizers, with webhooks among them, that takes
// the place of --authorization-mode.
package configuration

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/authz"
	"hardway/apiserver/authz/webhook"
)

// Authorizer is one of the list.
type Authorizer struct {
	Type    string // one of authz.Modes
	Name    string
	Webhook *webhook.Options // for the type Webhook
}

// document is upstream's AuthorizationConfiguration.
type document struct {
	APIVersion  string `json:"apiVersion"`
	Kind        string `json:"kind"`
	Authorizers []struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Webhook *hook  `json:"webhook"`
	} `json:"authorizers"`
}

type hook struct {
	AuthorizedTTL                            *metav1.Duration `json:"authorizedTTL"`
	CacheAuthorizedRequests                  *bool            `json:"cacheAuthorizedRequests"`
	UnauthorizedTTL                          *metav1.Duration `json:"unauthorizedTTL"`
	CacheUnauthorizedRequests                *bool            `json:"cacheUnauthorizedRequests"`
	Timeout                                  metav1.Duration  `json:"timeout"`
	SubjectAccessReviewVersion               string           `json:"subjectAccessReviewVersion"`
	MatchConditionSubjectAccessReviewVersion string           `json:"matchConditionSubjectAccessReviewVersion"`
	FailurePolicy                            string           `json:"failurePolicy"`
	ConnectionInfo                           struct {
		Type           string `json:"type"`
		KubeConfigFile string `json:"kubeConfigFile"`
	} `json:"connectionInfo"`
	MatchConditions []struct {
		Expression string `json:"expression"`
	} `json:"matchConditions"`
}

var versions = []string{"apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"}

// Defaults and bounds of webhooks, which are upstream's.
const (
	DefaultAllowed = 5 * time.Minute
	DefaultRefused = 30 * time.Second
	maxTimeout     = 30 * time.Second
)

// Load reads a file and checks it; kubeconfig files and expressions are for webhook.New to check.
func Load(path string) ([]Authorizer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authorization configuration: %w", err)
	}
	var doc document
	if err := yaml.UnmarshalStrict(text, &doc); err != nil {
		return nil, fmt.Errorf("read authorization configuration %s: %w", path, err)
	}
	var errs []error
	if doc.Kind != "AuthorizationConfiguration" || !slices.Contains(versions, doc.APIVersion) {
		errs = append(errs, fmt.Errorf("an AuthorizationConfiguration of %s is wanted, not %s %s", versions[0], doc.APIVersion, doc.Kind))
	}
	if len(doc.Authorizers) == 0 {
		errs = append(errs, errors.New("authorizers: at least one is needed"))
	}
	var out []Authorizer
	for i, a := range doc.Authorizers {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("authorizers[%d].%w", i, fmt.Errorf(format, args...)))
		}
		is := func(has Authorizer) bool { return has.Type == a.Type && a.Type != "Webhook" }
		switch {
		case !slices.Contains(authz.Modes, a.Type):
			bad("type: %q is none of %v", a.Type, authz.Modes)
		case slices.ContainsFunc(out, is):
			bad("type: %s stands there twice", a.Type)
		case (a.Type == "Webhook") != (a.Webhook != nil):
			bad("webhook: goes with the type Webhook, and only with it")
		}
		if len(validation.IsDNS1123Subdomain(a.Name)) > 0 {
			bad("name: %q is not a DNS name", a.Name)
		}
		if slices.ContainsFunc(out, func(has Authorizer) bool { return has.Name == a.Name }) {
			bad("name: %q stands there twice", a.Name)
		}
		one := Authorizer{Type: a.Type, Name: a.Name}
		if a.Webhook != nil {
			one.Webhook = a.Webhook.options(bad)
		}
		out = append(out, one)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("authorization configuration %s: %w", path, err)
	}
	return out, nil
}

func (h *hook) options(bad func(format string, args ...any)) *webhook.Options {
	o := &webhook.Options{
		Kubeconfig: h.ConnectionInfo.KubeConfigFile, Version: h.SubjectAccessReviewVersion, Timeout: h.Timeout.Duration,
		Allowed:       ttl(h.AuthorizedTTL, h.CacheAuthorizedRequests, DefaultAllowed),
		Refused:       ttl(h.UnauthorizedTTL, h.CacheUnauthorizedRequests, DefaultRefused),
		DenyOnFailure: h.FailurePolicy == "Deny",
	}
	for _, m := range h.MatchConditions {
		o.Match = append(o.Match, m.Expression)
	}
	switch c := h.ConnectionInfo; {
	case c.Type == "InClusterConfig":
		bad("webhook.connectionInfo.type: InClusterConfig is for API servers in pods, which there are none of here")
	case c.Type != "KubeConfigFile":
		bad("webhook.connectionInfo.type: %q is not KubeConfigFile", c.Type)
	case c.KubeConfigFile == "" || c.KubeConfigFile[0] != '/':
		bad("webhook.connectionInfo.kubeConfigFile: %q is no absolute path", c.KubeConfigFile)
	}
	if o.Version != "v1" && o.Version != "v1beta1" {
		bad("webhook.subjectAccessReviewVersion: %q is neither v1 nor v1beta1", o.Version)
	}
	if v := h.MatchConditionSubjectAccessReviewVersion; v != "v1" && (v != "" || len(o.Match) > 0) {
		bad("webhook.matchConditionSubjectAccessReviewVersion: %q is not v1", v)
	}
	if p := h.FailurePolicy; p != "Deny" && p != "NoOpinion" {
		bad("webhook.failurePolicy: %q is neither Deny nor NoOpinion", p)
	}
	if o.Timeout <= 0 || o.Timeout > maxTimeout {
		bad("webhook.timeout: %v is not between 0 and %v", o.Timeout, maxTimeout)
	}
	if o.Allowed < 0 || o.Refused < 0 {
		bad("webhook: authorizedTTL and unauthorizedTTL must not be negative")
	}
	return o
}

// ttl is how long answers hold: 0 when they are not remembered.
func ttl(said *metav1.Duration, remember *bool, byDefault time.Duration) time.Duration {
	switch {
	case remember != nil && !*remember:
		return 0
	case said == nil || said.Duration == 0:
		return byDefault
	}
	return said.Duration
}
