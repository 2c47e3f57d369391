package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Auth are credentials for a registry; the zero value is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
}

func (a Auth) authenticator() authn.Authenticator {
	if a == (Auth{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	})
}

// ErrUnauthorized says that the registry wants other credentials, or has no such repository: many do not tell.
var ErrUnauthorized = errors.New("pull access denied, the repository does not exist or needs credentials")

// Pull fetches the image that ref means now, from a mirror or its registry, and returns it. Layers that are already
// here are not fetched. Callers who ask for the same at the same time share one pull.
func (s *Store) Pull(ctx context.Context, ref string, auth Auth) (Image, error) {
	full, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	key := strings.Join([]string{full, auth.Username, auth.Password, auth.IdentityToken, auth.RegistryToken}, "\x00")
	m, err := s.pulls.do(ctx, key, func(ctx context.Context) (Image, error) { return s.pull(ctx, full, auth) })
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", full, err)
	}
	return m, nil
}

// place is where a pull may get an image from.
type place struct {
	ref       name.Reference
	auth      authn.Authenticator
	transport http.RoundTripper // nil: the usual one
}

// places lists the mirrors of full's registry, then the registry itself.
func (s *Store) places(full string, auth Auth) ([]place, error) {
	origin, err := parse(full, s.schemeOf(full)...)
	if err != nil {
		return nil, err
	}
	registry, rest, _ := strings.Cut(full, "/")
	told, err := endpoints(s.opts.HostsDir, registry)
	if err != nil {
		return nil, err
	}
	if len(told) > 0 {
		var out []place
		for _, e := range told {
			p, err := e.at(full, auth)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		return out, nil
	}
	mirrors, ok := s.opts.Mirrors[registry]
	if !ok {
		mirrors = s.opts.Mirrors["*"]
	}
	var out []place
	for _, m := range mirrors {
		u, err := url.Parse(m)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("mirror %q of %s: want http://host or https://host", m, registry)
		}
		var opts []name.Option
		if u.Scheme == "http" {
			opts = append(opts, name.Insecure)
		}
		ref, err := parse(u.Host+strings.TrimSuffix(u.Path, "/")+"/"+rest, opts...)
		if err != nil {
			return nil, err
		}
		out = append(out, place{ref: ref, auth: authn.Anonymous})
	}
	return append(out, place{ref: origin, auth: auth.authenticator()}), nil
}

func (s *Store) schemeOf(full string) []name.Option {
	registry, _, _ := strings.Cut(full, "/")
	if slices.Contains(s.opts.Plain, registry) {
		return []name.Option{name.Insecure}
	}
	return nil
}

func (s *Store) pull(ctx context.Context, full string, auth Auth) (Image, error) {
	places, err := s.places(full, auth)
	if err != nil {
		return Image{}, err
	}
	var errs []error
	for _, p := range places {
		m, err := s.pullFrom(ctx, p, full)
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return Image{}, ctx.Err()
		}
		errs = append(errs, err)
	}
	return Image{}, errs[len(errs)-1] // the registry's own word counts
}

func (s *Store) pullFrom(ctx context.Context, p place, full string) (Image, error) {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithAuth(p.auth), remote.WithUserAgent("hardway-nodeagent"),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH})}
	if p.transport != nil {
		opts = append(opts, remote.WithTransport(p.transport))
	}
	img, err := remote.Image(p.ref, opts...)
	if err != nil {
		return Image{}, inWords(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return Image{}, inWords(err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return Image{}, err
	}
	src := source{id: digestOf(config), digest: digest.String(), config: config}
	for _, l := range layers {
		src.layers = append(src.layers, func(context.Context) (io.ReadCloser, error) { return l.Compressed() })
	}
	refs := []string{full}
	if byDigest := repository(full) + "@" + digest.String(); byDigest != full {
		refs = append(refs, byDigest)
	}
	return s.add(ctx, src, refs)
}

// inWords tells users what a registry's refusal means.
func inWords(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return err
	}
	switch te.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (%w)", ErrUnauthorized, err)
	case http.StatusNotFound:
		return fmt.Errorf("%w in the registry (%w)", ErrNotFound, err)
	}
	return err
}
