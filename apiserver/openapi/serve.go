package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"

	"hardway/apiserver/resource"
)

const documentVersion = "v1.36.3"

// v2Protobuf is the media type of the v2 document in protobuf, which older clients ask for by v2ProtobufAsked: it has
// a character that media types may not have, so answers use another one, as upstream's do.
const (
	v2Protobuf      = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	v2ProtobufAsked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
)

// Server serves the documents. They are built when first asked for.
type Server struct {
	kinds       []*resource.Kind
	v2, v2proto *page
	root        *page
	groups      map[string]*page // api/v1, apis/apps/v1, ...
}

// New makes a server of the documents about some kinds. Nothing is built yet.
func New(kinds []*resource.Kind) *Server {
	s := &Server{kinds: kinds, groups: map[string]*page{}}
	byGroup := map[string][]entry{}
	all := entries(kinds)
	for _, e := range all {
		path := groupPath(e.gv())
		byGroup[path] = append(byGroup[path], e)
	}
	for path, list := range byGroup {
		s.groups[path] = newPage("application/json", func() ([]byte, error) { return json.Marshal(describe(v3, list)) })
	}
	s.v2 = newPage("application/json", func() ([]byte, error) { return json.Marshal(describe(v2, all)) })
	s.v2proto = newPage(v2Protobuf, s.buildProto)
	s.root = newPage("application/json", s.buildRoot)
	return s
}

// With makes a server that also describes some custom kinds. What is built of the others stays.
func (s *Server) With(custom []*resource.Kind) *Server {
	if len(custom) == 0 {
		return s
	}
	out := New(append(slices.Clone(s.kinds), custom...))
	touched := map[string]bool{}
	for _, k := range custom {
		touched[groupPath(k.GVK().GroupVersion())] = true
	}
	for path, p := range s.groups {
		if !touched[path] {
			out.groups[path] = p
		}
	}
	return out
}

func (s *Server) buildProto() ([]byte, error) {
	built, err := s.v2.get()
	if err != nil {
		return nil, err
	}
	text, err := built.plain()
	if err != nil {
		return nil, err
	}
	doc, err := openapiv2.ParseDocument(text)
	if err != nil {
		return nil, fmt.Errorf("turn the OpenAPI document into protobuf: %w", err)
	}
	return proto.Marshal(doc)
}

// buildRoot lists the v3 documents, each with the hash of its content, so that clients may keep them for ever.
func (s *Server) buildRoot() ([]byte, error) {
	paths := map[string]any{}
	for path, p := range s.groups {
		built, err := p.get()
		if err != nil {
			return nil, err
		}
		paths[path] = map[string]string{"serverRelativeURL": "/openapi/v3/" + path + "?hash=" + built.hash}
	}
	return json.Marshal(map[string]any{"paths": paths})
}

// V2 serves /openapi/v2, as JSON or protobuf.
func (s *Server) V2(w http.ResponseWriter, r *http.Request) error {
	p := s.v2
	if accept := r.Header.Get("Accept"); strings.Contains(accept, v2Protobuf) || strings.Contains(accept, v2ProtobufAsked) {
		p = s.v2proto
	}
	return p.serve(w, r)
}

// V3Root serves /openapi/v3.
func (s *Server) V3Root(w http.ResponseWriter, r *http.Request) error { return s.root.serve(w, r) }

// V3 serves the document of one version, such as api/v1 or apis/apps/v1; false when there is none.
func (s *Server) V3(w http.ResponseWriter, r *http.Request, path string) (bool, error) {
	p, ok := s.groups[path]
	if !ok {
		return false, nil
	}
	built, err := p.get()
	if err != nil {
		return true, err
	}
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != built.hash {
			http.Redirect(w, r, "/openapi/v3/"+path+"?hash="+built.hash, http.StatusMovedPermanently)
			return true, nil
		}
		w.Header().Set("Cache-Control", "public, immutable")
	}
	return true, p.serve(w, r)
}

// page is a document that is built once, when first asked for, and kept compressed.
type page struct {
	mediaType string
	get       func() (*built, error)
}

type built struct {
	packed []byte // gzip
	hash   string
}

func newPage(mediaType string, build func() ([]byte, error)) *page {
	return &page{mediaType: mediaType, get: sync.OnceValues(func() (*built, error) {
		text, err := build()
		if err != nil {
			return nil, err
		}
		sum := sha512.Sum512(text)
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.DefaultCompression)
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(text); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		return &built{bytes.Clone(packed.Bytes()), strings.ToUpper(hex.EncodeToString(sum[:]))}, nil
	})}
}

func (b *built) plain() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b.packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func (p *page) serve(w http.ResponseWriter, r *http.Request) error {
	b, err := p.get()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", p.mediaType)
	h.Set("ETag", `"`+b.hash+`"`)
	h.Set("Vary", "Accept, Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), b.hash) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := b.packed
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
	} else if body, err = b.plain(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, err = w.Write(body)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", r.URL.Path, err)
	}
	return nil
}
