package serve

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"hardway/apiserver/apply"
	"hardway/apiserver/discovery"
	"hardway/apiserver/openapi"
	"hardway/apiserver/registry"
	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// Connect serves a subresource that is a stream and no object: log, exec, attach, portforward, proxy.
type Connect func(w http.ResponseWriter, r *http.Request, info *request.Info) error

// Options are what a Server is made of.
type Options struct {
	Kinds      []*resource.Kind
	Scheme     *runtime.Scheme
	Registries *registry.Set
	Discovery  *discovery.Discovery
	OpenAPI    *openapi.Server
	// Connect has the streams of the core group, by "pods/log" and the like.
	Connect map[string]Connect
	// Version is what /version says.
	Version version.Info
	// Health serves /healthz, /livez, /readyz and what lies below; Debug serves /metrics and /debug/.
	Health, Debug http.Handler
	// MinWatch is the shortest time after which a watch without a timeout of its own is ended; each gets a random
	// one up to twice as long, so that watchers do not come back all at once. Default 30 minutes.
	MinWatch time.Duration
	// Judge answers reviews.
	Judge resource.Judge
	// OpenID serves /.well-known/openid-configuration and /openid/v1/jwks; nil: they are not served.
	OpenID http.Handler
	// Ending ends when the server stops: watches and connected streams end with it.
	Ending context.Context
	// Metrics are optional.
	Metrics *Metrics
	Log     *zap.Logger
}

// Server answers HTTP requests that have passed the filters.
type Server struct {
	endpoints map[schema.GroupVersionResource]*endpoint
	live      atomic.Pointer[live]
	decoders  *decoders
	connect   map[string]Connect
	minWatch  time.Duration
	version   version.Info
	judge     resource.Judge
	ending    context.Context
	metrics   *Metrics
	log       *zap.Logger
}

// New makes the handler of all routes.
func New(o Options) (*Server, http.Handler) {
	if o.Ending == nil {
		o.Ending = context.Background()
	}
	if o.MinWatch <= 0 {
		o.MinWatch = 30 * time.Minute
	}
	s := &Server{
		endpoints: endpoints(o.Kinds, o.Registries, apply.NewTypes(o.Kinds)),
		decoders:  newDecoders(o.Scheme),
		connect:   o.Connect, minWatch: o.MinWatch, version: o.Version, judge: o.Judge, ending: o.Ending, metrics: o.Metrics, log: o.Log,
	}
	s.live.Store(&live{discovery: o.Discovery, openapi: o.OpenAPI})
	return s, s.routes(o)
}

// routes is the route table.
func (s *Server) routes(o Options) http.Handler {
	m := mux.NewRouter().SkipClean(true)
	m.NotFoundHandler = http.HandlerFunc(notFound)
	m.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Fail(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{}, r.Method))
	})
	m.MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool {
		info := request.From(r.Context())
		return info != nil && info.IsResource
	}).HandlerFunc(s.resource)

	read := func(path string, h func(w http.ResponseWriter, r *http.Request) error) {
		m.HandleFunc(path, s.read(h)).Methods(http.MethodGet, http.MethodHead)
	}
	read("/", s.root)
	read("/api", s.coreVersions)
	read("/api/", s.coreVersions)
	read("/api/{version}", s.resources)
	read("/api/{version}/", s.resources)
	read("/apis", s.groups)
	read("/apis/", s.groups)
	read("/apis/{group}", s.group)
	read("/apis/{group}/", s.group)
	read("/apis/{group}/{version}", s.resources)
	read("/apis/{group}/{version}/", s.resources)
	read("/openapi/v2", func(w http.ResponseWriter, r *http.Request) error { return s.live.Load().openapi.V2(w, r) })
	read("/openapi/v3", func(w http.ResponseWriter, r *http.Request) error { return s.live.Load().openapi.V3Root(w, r) })
	read("/openapi/v3/{path:.*}", s.openAPIv3)
	read("/version", s.versions)
	read("/version/", s.versions)
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		m.Handle(path, o.Health)
		m.PathPrefix(path + "/").Handler(o.Health)
	}
	if o.OpenID != nil {
		m.Handle("/.well-known/openid-configuration", o.OpenID)
		m.Handle("/openid/v1/jwks", o.OpenID)
	}
	m.Handle("/metrics", o.Debug)
	m.PathPrefix("/debug/").Handler(o.Debug)
	return m
}

// read turns a function into a handler that writes its error.
func (s *Server) read(h func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// fail writes an error. One that is the server's own goes into the log as well, and what may pass by itself, such as an
// etcd without a leader, as a warning.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if status := StatusOf(err); status.Code >= http.StatusInternalServerError && r.Context().Err() == nil {
		level := zap.WarnLevel
		if status.Code == http.StatusInternalServerError {
			level = zap.ErrorLevel
		}
		s.log.Log(level, "request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	}
	Fail(w, r, err)
}

// Known says whether a resource, with its subresource if one is given, is served.
func (s *Server) Known(group, version, plural, sub string) bool {
	e := s.endpoint(schema.GroupVersionResource{Group: group, Version: version, Resource: plural})
	switch {
	case e == nil:
		return false
	case sub == "":
		return true
	case sub == "status":
		return e.kind.HasStatus
	}
	return e.kind.Subresource(sub) != nil
}

func gvr(info *request.Info) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: info.Group, Version: info.Version, Resource: info.Resource}
}

// notFound is the answer to a path that nothing lies under: plain text, as upstream gives it.
func notFound(w http.ResponseWriter, r *http.Request) {
	w.Header().Del("Cache-Control")
	http.Error(w, "404 page not found", http.StatusNotFound)
}

// root lists the paths one can begin at.
func (s *Server) root(w http.ResponseWriter, r *http.Request) error {
	paths := []string{"/api", "/api/v1", "/apis"}
	for _, g := range s.live.Load().discovery.Groups().Groups {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	paths = append(paths, "/debug/pprof/", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version")
	return s.sendJSON(w, r, map[string][]string{"paths": paths})
}

func (s *Server) versions(w http.ResponseWriter, r *http.Request) error {
	return s.sendJSON(w, r, s.version)
}

func (s *Server) openAPIv3(w http.ResponseWriter, r *http.Request) error {
	found, err := s.live.Load().openapi.V3(w, r, strings.TrimSuffix(mux.Vars(r)["path"], "/"))
	if err == nil && !found {
		notFound(w, r)
	}
	return err
}
