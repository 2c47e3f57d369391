package serve

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/gorilla/mux"
	"github.com/munnerz/goautoneg"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// coreVersions answers /api.
func (s *Server) coreVersions(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.aggregated(w, r, true); done {
		return err
	}
	return s.sendOther(w, r, s.live.Load().discovery.Versions())
}

// groups answers /apis.
func (s *Server) groups(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.aggregated(w, r, false); done {
		return err
	}
	return s.sendOther(w, r, s.live.Load().discovery.Groups())
}

// group answers /apis/<group>.
func (s *Server) group(w http.ResponseWriter, r *http.Request) error {
	g := s.live.Load().discovery.Group(mux.Vars(r)["group"])
	if g == nil {
		notFound(w, r)
		return nil
	}
	return s.sendOther(w, r, g)
}

// resources answers /api/v1 and /apis/<group>/<version>.
func (s *Server) resources(w http.ResponseWriter, r *http.Request) error {
	vars := mux.Vars(r)
	list := s.live.Load().discovery.Resources(schema.GroupVersion{Group: vars["group"], Version: vars["version"]})
	if list == nil {
		notFound(w, r)
		return nil
	}
	return s.sendOther(w, r, list)
}

// aggregated answers with the one document about all groups, if the client asks for it before the plain form.
func (s *Server) aggregated(w http.ResponseWriter, r *http.Request, core bool) (bool, error) {
	version := ""
	for _, clause := range goautoneg.ParseAccept(r.Header.Get("Accept")) {
		p := clause.Params
		if p["as"] == "APIGroupDiscoveryList" && p["g"] == "apidiscovery.k8s.io" && clause.SubType == "json" && (p["v"] == "v2" || p["v"] == "v2beta1") {
			version = p["v"]
			break
		}
		if p["as"] == "" && (clause.SubType == "json" || clause.SubType == "*") {
			return false, nil
		}
	}
	if version == "" {
		return false, nil
	}
	doc, err := s.live.Load().discovery.Aggregated(core, version)
	if err != nil {
		return true, err
	}
	h := w.Header()
	h.Set("Vary", "Accept")
	h.Set("ETag", doc.ETag)
	mediaType := mediaJSON + ";g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList"
	if strings.Contains(r.Header.Get("If-None-Match"), doc.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return true, nil
	}
	write(w, r, mediaType, http.StatusOK, doc.Body)
	return true, nil
}

// sendOther writes an object that belongs to no endpoint.
func (s *Server) sendOther(w http.ResponseWriter, r *http.Request, obj runtime.Object) error {
	m, err := negotiate(r, false, true)
	if err != nil {
		return err
	}
	text, err := encodeOther(m, obj)
	if err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept")
	write(w, r, m.encoding.String(), http.StatusOK, text)
	return nil
}

// sendJSON writes what is no Kubernetes object.
func (s *Server) sendJSON(w http.ResponseWriter, r *http.Request, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	write(w, r, mediaJSON, http.StatusOK, text)
	return nil
}
