package pull

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
)

// Keychain returns the credentials of image pull secrets, for every registry that they name. A secret that cannot be
// read is an error that names it.
func Keychain(secrets []*corev1.Secret) (authn.Keychain, error) {
	k := keychain{}
	for _, s := range secrets {
		entries, err := entriesOf(s)
		if err != nil {
			return nil, fmt.Errorf("image pull secret %s/%s: %w", s.Namespace, s.Name, err)
		}
		for pattern, a := range entries {
			k = append(k, credential{normalize(pattern), a})
		}
	}
	return k, nil
}

func entriesOf(s *corev1.Secret) (map[string]authn.AuthConfig, error) {
	if data, ok := s.Data[corev1.DockerConfigJsonKey]; ok {
		var file struct {
			Auths map[string]authn.AuthConfig `json:"auths"`
		}
		err := decode(data, &file)
		return file.Auths, err
	}
	if data, ok := s.Data[corev1.DockerConfigKey]; ok {
		var auths map[string]authn.AuthConfig
		err := decode(data, &auths)
		return auths, err
	}
	return nil, fmt.Errorf("has neither %s nor %s", corev1.DockerConfigJsonKey, corev1.DockerConfigKey)
}

// decode hides the content of a secret from the error.
func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("is not valid JSON")
	}
	return nil
}

type credential struct {
	pattern string // host[:port][/path], the host may hold wildcards
	auth    authn.AuthConfig
}

type keychain []credential

// Resolve implements authn.Keychain: the most specific pattern that matches wins.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	best := -1
	for i, c := range k {
		if matches(c.pattern, r.String()) && (best < 0 || len(c.pattern) > len(k[best].pattern)) {
			best = i
		}
	}
	if best < 0 {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(k[best].auth), nil
}

func matches(pattern, repository string) bool {
	host, prefix, _ := strings.Cut(pattern, "/")
	rHost, rPath, _ := strings.Cut(repository, "/")
	ok, err := path.Match(host, rHost)
	if err != nil || !ok {
		return false
	}
	return prefix == "" || rPath == prefix || strings.HasPrefix(rPath, prefix+"/")
}

// normalize turns the ways in which docker writes a registry into host[:port][/path].
func normalize(s string) string {
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		s = u.Host + u.Path
	}
	s = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(s, "/"), "/v1"), "/v2")
	if s == "docker.io" || s == "registry-1.docker.io" {
		return "index.docker.io"
	}
	return strings.TrimSuffix(s, "/")
}
