package encryption

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// configuration is the file of --encryption-provider-config: an EncryptionConfiguration of apiserver.config.k8s.io/v1, or
// the EncryptionConfig of v1 that came before it.
// https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-EncryptionConfiguration
type configuration struct {
	Kind       string  `json:"kind"`
	APIVersion string  `json:"apiVersion"`
	Resources  []entry `json:"resources"`
}

type entry struct {
	Resources []string   `json:"resources"`
	Providers []provider `json:"providers"`
}

// provider has one of its fields.
type provider struct {
	AESGCM    *keys     `json:"aesgcm,omitempty"`
	AESCBC    *keys     `json:"aescbc,omitempty"`
	Secretbox *keys     `json:"secretbox,omitempty"`
	Identity  *struct{} `json:"identity,omitempty"`
	KMS       *kms      `json:"kms,omitempty"`
}

type keys struct {
	Keys []key `json:"keys"`
}

type key struct {
	Name   string `json:"name"`
	Secret string `json:"secret"` // base64
}

// kms is a key service of https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/, version 2.
type kms struct {
	APIVersion string           `json:"apiVersion"`
	Name       string           `json:"name"`
	Endpoint   string           `json:"endpoint"` // unix:///path
	Timeout    *metav1.Duration `json:"timeout,omitempty"`
	CacheSize  *int32           `json:"cachesize,omitempty"` // of version 1
}

// load reads and checks a configuration file.
func load(path string) ([]rule, []byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("encryption configuration: %w", err)
	}
	rules, err := parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("encryption configuration %s: %w", path, err)
	}
	return rules, text, nil
}

// rule says how the kinds that it names are sealed.
type rule struct {
	resources []string // "secrets", "deployments.apps", "*.apps", "*." (the core group), "*.*"
	ring      *ring
}

func parse(text []byte) ([]rule, error) {
	var c configuration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return nil, err
	}
	switch c.APIVersion + "/" + c.Kind {
	case "apiserver.config.k8s.io/v1/EncryptionConfiguration", "v1/EncryptionConfig":
	default:
		return nil, fmt.Errorf("kind %q of %q is not an EncryptionConfiguration of apiserver.config.k8s.io/v1", c.Kind, c.APIVersion)
	}
	if len(c.Resources) == 0 {
		return nil, errors.New("resources: at least one entry is needed")
	}
	var rules []rule
	for i, e := range c.Resources {
		at := fmt.Sprintf("resources[%d]", i)
		if err := checkNames(e.Resources, rules); err != nil {
			return nil, fmt.Errorf("%s.resources: %w", at, err)
		}
		r, err := newRing(e.Providers)
		if err != nil {
			return nil, fmt.Errorf("%s.providers%w", at, err)
		}
		rules = append(rules, rule{e.Resources, r})
	}
	return rules, nil
}

// checkNames refuses names that select nothing, because they are malformed or covered by an earlier entry.
func checkNames(names []string, before []rule) error {
	if len(names) == 0 {
		return errors.New("at least one resource is needed")
	}
	for _, name := range names {
		switch plural, group, _ := strings.Cut(name, "."); {
		case name == "" || name != strings.ToLower(name) || strings.Contains(name, "/"):
			return fmt.Errorf("%q is not the lower-case plural of a kind, with a dot and the group unless it is the core group", name)
		case plural == "*" && !strings.Contains(name, "."):
			return errors.New(`use "*." for all kinds of the core group, "*.*" for all kinds`)
		case plural != "*" && group == "*":
			return fmt.Errorf("%q: a group cannot be left open for one kind", name)
		}
		for _, r := range before {
			if slices.Contains(r.resources, "*.*") || slices.Contains(r.resources, name) {
				return fmt.Errorf("%q is covered by an earlier entry", name)
			}
		}
	}
	return nil
}

// find returns the ring for a kind: that of the first rule that names it, nil when none does.
func find(rules []rule, gr schema.GroupResource) *ring {
	for _, r := range rules {
		if slices.ContainsFunc(r.resources, func(name string) bool { return selects(name, gr) }) {
			return r.ring
		}
	}
	return nil
}

func selects(name string, gr schema.GroupResource) bool {
	plural, group, _ := strings.Cut(name, ".")
	return (plural == "*" || plural == gr.Resource) && (group == gr.Group || plural == "*" && group == "*")
}

// newRing makes the providers of an entry. Errors begin with the path below it.
func newRing(providers []provider) (*ring, error) {
	if len(providers) == 0 {
		return nil, errors.New(": at least one provider is needed")
	}
	r := &ring{}
	for i, p := range providers {
		var err error
		switch at := fmt.Sprintf("[%d]", i); {
		case count(p) != 1:
			err = fmt.Errorf("%s: exactly one of aescbc, aesgcm, secretbox, kms and identity is needed", at)
		case p.AESCBC != nil:
			err = r.add(at, "aescbc", p.AESCBC, newCBC)
		case p.AESGCM != nil:
			err = r.add(at, "aesgcm", p.AESGCM, newGCM)
		case p.Secretbox != nil:
			err = r.add(at, "secretbox", p.Secretbox, newSecretbox)
		case p.KMS != nil:
			err = r.addService(at, p.KMS)
		default:
			r.seals = append(r.seals, seal{})
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func count(p provider) (n int) {
	for _, has := range []bool{p.AESCBC != nil, p.AESGCM != nil, p.Secretbox != nil, p.Identity != nil, p.KMS != nil} {
		if has {
			n++
		}
	}
	return n
}

// add appends a provider's keys.
func (r *ring) add(at, kind string, k *keys, make func(secret []byte) (cipher, error)) error {
	if len(k.Keys) == 0 {
		return fmt.Errorf("%s.%s.keys: at least one key is needed", at, kind)
	}
	for i, one := range k.Keys {
		where := fmt.Sprintf("%s.%s.keys[%d]", at, kind, i)
		if one.Name == "" || strings.Contains(one.Name, ":") {
			return fmt.Errorf("%s.name: %q must not be empty or contain a colon", where, one.Name)
		}
		prefix := "k8s:enc:" + kind + ":v1:" + one.Name + ":"
		if slices.ContainsFunc(r.seals, func(s seal) bool { return s.prefix == prefix }) {
			return fmt.Errorf("%s.name: %q is there twice", where, one.Name)
		}
		secret, err := base64.StdEncoding.DecodeString(one.Secret)
		if err != nil {
			return fmt.Errorf("%s.secret is not base64", where) // the error would show parts of it
		}
		c, err := make(secret)
		if err != nil {
			return fmt.Errorf("%s.secret: %w", where, err)
		}
		r.seals = append(r.seals, seal{prefix, c})
	}
	return nil
}

// addService appends a key service.
func (r *ring) addService(at string, k *kms) error {
	timeout := 3 * time.Second
	if k.Timeout != nil {
		timeout = k.Timeout.Duration
	}
	switch {
	case k.APIVersion != "v2":
		return fmt.Errorf("%s.kms.apiVersion: %q is not served, v2 is", at, k.APIVersion)
	case k.Name == "" || strings.Contains(k.Name, ":"):
		return fmt.Errorf("%s.kms.name: %q must not be empty or contain a colon", at, k.Name)
	case !strings.HasPrefix(k.Endpoint, "unix://"):
		return fmt.Errorf("%s.kms.endpoint: %q does not begin with unix://", at, k.Endpoint)
	case k.CacheSize != nil:
		return fmt.Errorf("%s.kms.cachesize: version 2 has none", at)
	case timeout <= 0:
		return fmt.Errorf("%s.kms.timeout must be positive", at)
	}
	s, err := newService(k.Name, k.Endpoint, timeout)
	if err != nil {
		return fmt.Errorf("%s.kms: %w", at, err)
	}
	r.seals = append(r.seals, seal{"k8s:enc:kms:v2:" + k.Name + ":", s})
	return nil
}
