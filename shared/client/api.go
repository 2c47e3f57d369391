package client

import (
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/rest"
)

// API is a daemon's connection to the apiserver. It is safe for concurrent use.
type API struct {
	cfg    *rest.Config
	http   *http.Client
	codecs serializer.CodecFactory
	params runtime.ParameterCodec

	protobuf runtime.Serializer
	pipes    *pipes

	mu     sync.Mutex
	groups map[schema.GroupVersion]*rest.RESTClient // guarded by mu
}

// New makes a connection from cfg, see Config. Nothing is sent yet.
func New(cfg *rest.Config) (*API, error) {
	types := scheme()
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Host, err)
	}
	return &API{
		cfg: cfg, http: h,
		codecs:   serializer.NewCodecFactory(types),
		params:   runtime.NewParameterCodec(types),
		protobuf: protobuf.NewSerializer(types, types),
		pipes:    newPipes(cfg),
		groups:   map[schema.GroupVersion]*rest.RESTClient{},
	}, nil
}

// Config returns a copy of the settings this connection was made with.
func (a *API) Config() *rest.Config { return rest.CopyConfig(a.cfg) }

// HTTP is the connection's HTTP client, which authenticates and verifies as all its requests do.
func (a *API) HTTP() *http.Client { return a.http }

// group returns the client of one group and version.
func (a *API) group(gv schema.GroupVersion) (*rest.RESTClient, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.groups[gv]; ok {
		return c, nil
	}
	cfg := rest.CopyConfig(a.cfg)
	cfg.GroupVersion, cfg.NegotiatedSerializer = &gv, a.codecs.WithoutConversion()
	cfg.APIPath = "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	c, err := rest.RESTClientForConfigAndClient(cfg, a.http)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", gv, err)
	}
	a.groups[gv] = c
	return c, nil
}
