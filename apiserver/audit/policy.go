package audit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/request"
)

// Level says how much of a request is written down.
type Level string

// The levels, each with what the one before has.
const (
	None            Level = "None"
	Metadata        Level = "Metadata"
	Request         Level = "Request"
	RequestResponse Level = "RequestResponse"
)

var levels = []Level{None, Metadata, Request, RequestResponse}

// atLeast compares levels.
func (l Level) atLeast(least Level) bool {
	return slices.Index(levels, l) >= slices.Index(levels, least)
}

// Stage is a moment in the life of a request.
type Stage string

// The stages. A request that is not long-running has no ResponseStarted.
const (
	RequestReceived  Stage = "RequestReceived"
	ResponseStarted  Stage = "ResponseStarted"
	ResponseComplete Stage = "ResponseComplete"
	Panic            Stage = "Panic"
)

var stages = []Stage{RequestReceived, ResponseStarted, ResponseComplete, Panic}

// Policy says what is written down: the first rule that matches a request decides, and without one nothing is.
// https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Policy
type Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Rules             []Rule  `json:"rules"`
	OmitStages        []Stage `json:"omitStages"`
	OmitManagedFields bool    `json:"omitManagedFields"`
}

// Rule matches requests that fit all fields which are not empty.
type Rule struct {
	Level             Level       `json:"level"`
	Users             []string    `json:"users"`
	UserGroups        []string    `json:"userGroups"`
	Verbs             []string    `json:"verbs"`
	Resources         []Resources `json:"resources"`
	Namespaces        []string    `json:"namespaces"` // "" stands for what is outside namespaces
	NonResourceURLs   []string    `json:"nonResourceURLs"`
	OmitStages        []Stage     `json:"omitStages"`
	OmitManagedFields *bool       `json:"omitManagedFields"`
}

// Resources are kinds of a group: plurals, plural/subresource, plural/*, */subresource or *; none means all.
type Resources struct {
	Group         string   `json:"group"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames"`
}

// Load reads a policy file.
func Load(path string) (*Policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	p := &Policy{}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", path, err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", path, err)
	}
	return p, nil
}

func (p *Policy) check() error {
	if p.APIVersion != "audit.k8s.io/v1" || p.Kind != "Policy" {
		return fmt.Errorf("kind %q of %q is not a Policy of audit.k8s.io/v1", p.Kind, p.APIVersion)
	}
	if len(p.Rules) == 0 {
		return errors.New("rules: at least one is needed")
	}
	errs := checkStages("omitStages", p.OmitStages)
	for i, r := range p.Rules {
		errs = append(errs, r.check(fmt.Sprintf("rules[%d]", i))...)
	}
	return errors.Join(errs...)
}

func checkStages(at string, omit []Stage) (errs []error) {
	for _, s := range omit {
		if !slices.Contains(stages, s) {
			errs = append(errs, fmt.Errorf("%s: %q is none of %q", at, s, stages))
		}
	}
	return errs
}

func (r *Rule) check(at string) []error {
	errs := checkStages(at+".omitStages", r.OmitStages)
	if !slices.Contains(levels, r.Level) {
		errs = append(errs, fmt.Errorf("%s.level: %q is none of %q", at, r.Level, levels))
	}
	if len(r.NonResourceURLs) > 0 && len(r.Resources)+len(r.Namespaces) > 0 {
		errs = append(errs, fmt.Errorf("%s: rules for nonResourceURLs have neither resources nor namespaces", at))
	}
	for _, u := range r.NonResourceURLs {
		if u != "*" && (!strings.HasPrefix(u, "/") || strings.Contains(strings.TrimSuffix(u, "*"), "*")) {
			errs = append(errs, fmt.Errorf("%s.nonResourceURLs: %q must begin with / and may have a * at its end only", at, u))
		}
	}
	for i, res := range r.Resources {
		if len(res.ResourceNames) > 0 && len(res.Resources) == 0 {
			errs = append(errs, fmt.Errorf("%s.resources[%d]: resourceNames need resources", at, i))
		}
		if strings.Contains(res.Group, "/") {
			errs = append(errs, fmt.Errorf("%s.resources[%d].group: %q must not name a version", at, i, res.Group))
		}
	}
	return errs
}

// choice is what a policy says about one request.
type choice struct {
	level      Level
	omit       []Stage
	omitFields bool
}

// choose finds the rule for a request. The user may be nil: nobody has logged in.
func (p *Policy) choose(user *request.UserInfo, info *request.Info) choice {
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(user, info) {
			continue
		}
		c := choice{level: r.Level, omit: slices.Concat(p.OmitStages, r.OmitStages), omitFields: p.OmitManagedFields}
		if r.OmitManagedFields != nil {
			c.omitFields = *r.OmitManagedFields
		}
		return c
	}
	return choice{level: None}
}

func (r *Rule) matches(user *request.UserInfo, info *request.Info) bool {
	if len(r.Users) > 0 && (user == nil || !slices.Contains(r.Users, user.Name)) {
		return false
	}
	if len(r.UserGroups) > 0 && !slices.ContainsFunc(r.UserGroups, user.In) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, info.Verb) {
		return false
	}
	if len(r.Namespaces)+len(r.Resources) > 0 {
		return info.IsResource && (len(r.Namespaces) == 0 || slices.Contains(r.Namespaces, info.Namespace)) && r.names(info)
	}
	if len(r.NonResourceURLs) > 0 {
		return !info.IsResource && slices.ContainsFunc(r.NonResourceURLs, func(u string) bool {
			prefix, open := strings.CutSuffix(u, "*")
			return u == info.Path || open && strings.HasPrefix(info.Path, prefix)
		})
	}
	return true
}

// names says whether the rule's resources have the request's.
func (r *Rule) names(info *request.Info) bool {
	if len(r.Resources) == 0 {
		return true
	}
	whole := info.Resource
	if info.Subresource != "" {
		whole += "/" + info.Subresource
	}
	return slices.ContainsFunc(r.Resources, func(res Resources) bool {
		if res.Group != info.Group {
			return false
		}
		if len(res.Resources) == 0 {
			return true
		}
		named := len(res.ResourceNames) == 0 || slices.Contains(res.ResourceNames, info.Name)
		return named && slices.ContainsFunc(res.Resources, func(name string) bool {
			plural, sub, _ := strings.Cut(name, "/")
			switch {
			case name == "*", name == whole:
				return true
			case sub == "":
				return false
			}
			return info.Subresource != "" && (plural == "*" && sub == info.Subresource || plural == info.Resource && sub == "*")
		})
	})
}
