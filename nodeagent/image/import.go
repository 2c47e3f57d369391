package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Import brings in every image of an archive: what `docker save` writes (old or new form) or an OCI layout, plain or
// compressed, with one image or several. Blobs are verified against the digests that name them. Of an image for several
// platforms only this node's is taken.
func (s *Store) Import(ctx context.Context, tarball string) ([]Image, error) {
	images, err := s.importArchive(ctx, tarball)
	if err != nil {
		return images, fmt.Errorf("import %s: %w", tarball, err)
	}
	return images, nil
}

func (s *Store) importArchive(ctx context.Context, tarball string) ([]Image, error) {
	tmp, done, err := s.tempDir()
	if err != nil {
		return nil, err
	}
	defer done()
	a, err := openArchive(ctx, tarball, tmp)
	if err != nil {
		return nil, err
	}
	defer a.file.Close()
	found, err := a.images()
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, f := range found {
		m, err := s.add(ctx, f.source, f.refs)
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
	return out, nil
}

// archived is one image in an archive.
type archived struct {
	source
	refs []string
}

// images reads the archive's own list. Docker's is preferred where both are present, for it has the full names.
func (a *archive) images() ([]archived, error) {
	b, err := a.read("manifest.json")
	if err == nil {
		return a.dockerImages(b)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	b, err = a.read("index.json")
	if err == nil {
		return a.ociImages(b, nil)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return nil, errors.New("neither a docker-save archive (manifest.json) nor an OCI layout (index.json)")
}

func (a *archive) dockerImages(manifest []byte) ([]archived, error) {
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(manifest, &list); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("manifest.json names no image")
	}
	var out []archived
	for _, e := range list {
		config, err := a.read(e.Config)
		if err != nil {
			return nil, err
		}
		img := archived{source: source{id: digestOf(config), config: config}}
		for _, l := range e.Layers {
			img.layers = append(img.layers, a.opener(l))
		}
		for _, t := range e.RepoTags {
			full, err := Normalize(t)
			if err != nil {
				return nil, err
			}
			img.refs = append(img.refs, full)
		}
		out = append(out, img)
	}
	return out, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ociImages reads an index of an OCI layout. refs are the names of an index that stands for one image.
func (a *archive) ociImages(index []byte, refs []string) ([]archived, error) {
	idx, err := v1.ParseIndexManifest(strings.NewReader(string(index)))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var out []archived
	for _, d := range idx.Manifests {
		if d.Platform != nil && !d.Platform.Satisfies(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}) {
			continue
		}
		names := append(annotatedNames(d), refs...)
		b, err := a.blob(d.Digest)
		if err != nil {
			return nil, err
		}
		if d.MediaType.IsIndex() || d.MediaType == types.OCIImageIndex {
			nested, err := a.ociImages(b, names)
			if err != nil {
				return nil, err
			}
			out = append(out, nested...)
			continue
		}
		img, err := a.ociImage(d.Digest, b, names)
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no image for linux/%s in the archive", runtime.GOARCH)
	}
	return out, nil
}

func (a *archive) ociImage(digest v1.Hash, manifest []byte, refs []string) (archived, error) {
	m, err := v1.ParseManifest(strings.NewReader(string(manifest)))
	if err != nil {
		return archived{}, fmt.Errorf("image manifest %s: %w", digest, err)
	}
	config, err := a.blob(m.Config.Digest)
	if err != nil {
		return archived{}, err
	}
	img := archived{source: source{id: digestOf(config), digest: digest.String(), config: config}, refs: refs}
	for _, l := range m.Layers {
		// Not verified by this digest but, unpacked, by the one in the configuration, which was.
		img.layers = append(img.layers, a.opener(blobName(l.Digest)))
	}
	return img, nil
}

// annotatedNames are the references that a descriptor carries. A bare tag says nothing about the repository.
func annotatedNames(d v1.Descriptor) []string {
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if n := d.Annotations[key]; strings.ContainsAny(n, "/:") {
			if full, err := Normalize(n); err == nil {
				return []string{full}
			}
		}
	}
	return nil
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// blob reads a small blob and verifies it.
func (a *archive) blob(h v1.Hash) ([]byte, error) {
	b, err := a.read(blobName(h))
	if err != nil {
		return nil, err
	}
	if digestOf(b) != h.String() {
		return nil, fmt.Errorf("blob %s: content does not match its digest", h)
	}
	return b, nil
}
