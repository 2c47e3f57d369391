package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Where to find the images of a registry is said by <dir>/<host[:port]>/hosts.toml, or <dir>/_default/hosts.toml, in
// containerd's format. The files are read at every pull, so a change needs no restart. What is read:
//
//	server = "https://registry-1.docker.io"       the registry itself, asked last
//	[host."http://mirror:5000"]                   asked before it, in the order of the file
//	  capabilities = ["pull", "resolve"]          one that may not pull is left out
//	  ca = "mirror.pem"                           or a list; relative to the file
//	  skip_verify = true
//	  override_path = true                        the path of the URL is that of the API, "/v2" is not added
const hostsFile = "hosts.toml"

// endpoint is one place from where images of a registry are fetched.
type endpoint struct {
	url    *url.URL
	tls    *tls.Config // nil: the system's
	origin bool        // the registry itself: it gets the credentials
}

type hostEntry struct {
	Capabilities []string `toml:"capabilities"`
	CA           any      `toml:"ca"`
	SkipVerify   bool     `toml:"skip_verify"`
	OverridePath bool     `toml:"override_path"`
}

type hostsTable struct {
	Server string `toml:"server"`
	hostEntry
	Host map[string]hostEntry `toml:"host"`
}

// endpoints reads the file for a registry; nil when there is none.
func endpoints(dir, registry string) ([]endpoint, error) {
	if dir == "" {
		return nil, nil
	}
	for _, folder := range []string{registry, strings.Replace(registry, ":", "_", 1) + "_", "_default"} {
		path := filepath.Join(dir, folder, hostsFile)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var list []endpoint
		if err == nil {
			list, err = parseHosts(data, filepath.Dir(path), registry)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return list, nil
	}
	return nil, nil
}

func parseHosts(data []byte, dir, registry string) ([]endpoint, error) {
	var t hostsTable
	if err := toml.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	var out []endpoint
	for _, host := range hostOrder(data) {
		e := t.Host[host]
		if len(e.Capabilities) > 0 && !slices.Contains(e.Capabilities, "pull") {
			continue
		}
		made, err := newEndpoint(host, e, dir)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	server := t.Server
	if server == "" {
		server = "https://" + registry
	}
	origin, err := newEndpoint(server, t.hostEntry, dir)
	origin.origin = true
	return append(out, origin), err
}

// hostOrder lists the hosts as they stand in the file: that is the order in which they are asked, and maps have none.
func hostOrder(data []byte) []string {
	var out []string
	p := unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table {
			continue
		}
		var key []string
		for it := e.Key(); it.Next(); {
			key = append(key, string(it.Node().Data))
		}
		if len(key) >= 2 && key[0] == "host" && !slices.Contains(out, key[1]) {
			out = append(out, key[1])
		}
	}
	return out
}

func newEndpoint(address string, e hostEntry, dir string) (endpoint, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return endpoint{}, fmt.Errorf("host %q: want http://host or https://host", address)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if e.OverridePath {
		rest, ok := strings.CutPrefix(u.Path, "/v2")
		if !ok {
			return endpoint{}, fmt.Errorf("host %q: with override_path the path must begin with /v2", address)
		}
		u.Path = rest
	} else if u.Path == "/v2" {
		u.Path = ""
	}
	out := endpoint{url: u}
	files, err := stringList(e.CA)
	if err != nil {
		return out, fmt.Errorf("host %q: ca: %w", address, err)
	}
	if e.SkipVerify || len(files) > 0 {
		out.tls = &tls.Config{InsecureSkipVerify: e.SkipVerify} //nolint:gosec // the operator asks for it by name
		out.tls.RootCAs, err = pool(files, dir)
	}
	return out, err
}

func stringList(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("%v is not a file name", x)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%v is neither a file name nor a list of them", v)
}

// pool is the system's certificates and those of the files; nil when no file is named.
func pool(files []string, dir string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	p, err := x509.SystemCertPool()
	if err != nil {
		p = x509.NewCertPool()
	}
	for _, f := range files {
		if !filepath.IsAbs(f) {
			f = filepath.Join(dir, f)
		}
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if !p.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", f)
		}
	}
	return p, nil
}

// at is the place where full is found at the endpoint.
func (e endpoint) at(full string, auth Auth) (place, error) {
	var opts []name.Option
	if e.url.Scheme == "http" {
		opts = append(opts, name.Insecure)
	}
	_, rest, _ := strings.Cut(full, "/")
	ref, err := parse(e.url.Host+e.url.Path+"/"+rest, opts...)
	if err != nil {
		return place{}, err
	}
	p := place{ref: ref, auth: authn.Anonymous}
	if e.origin {
		p.auth = auth.authenticator()
	}
	if e.tls != nil {
		t := remote.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = e.tls
		p.transport = t
	}
	return p, nil
}
