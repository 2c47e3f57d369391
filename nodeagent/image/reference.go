package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Normalize writes a reference out in full, as Docker's users know them: "busybox" is "docker.io/library/busybox:latest".
// A reference with a digest keeps no tag.
func Normalize(ref string) (string, error) {
	r, err := parse(ref)
	if err != nil {
		return "", err
	}
	return canonical(r), nil
}

func parse(ref string, opts ...name.Option) (name.Reference, error) {
	r, err := name.ParseReference(ref, opts...)
	if err != nil {
		return nil, fmt.Errorf("invalid image name %q: %w", ref, err)
	}
	return r, nil
}

// canonical undoes the one place where the library's form is not the users'.
func canonical(r name.Reference) string {
	registry := r.Context().RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	sep := ":"
	if _, ok := r.(name.Digest); ok {
		sep = "@"
	}
	return registry + "/" + r.Context().RepositoryStr() + sep + r.Identifier()
}

var idPattern = regexp.MustCompile(`^(sha256:)?([0-9a-f]{64})$`)

// parseID recognizes an image id, with or without "sha256:".
func parseID(ref string) (string, bool) {
	m := idPattern.FindStringSubmatch(ref)
	if m == nil {
		return "", false
	}
	return "sha256:" + m[2], true
}

// repository is a canonical reference without its tag or digest.
func repository(canonicalRef string) string {
	if repo, _, ok := strings.Cut(canonicalRef, "@"); ok {
		return repo
	}
	return canonicalRef[:strings.LastIndexByte(canonicalRef, ':')]
}
