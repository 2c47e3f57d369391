// Package serve answers the apiserver on port 10250: logs, exec, attach and port-forward of containers, and what the
// node has to say about itself. URLs, query parameters, protocols and messages are those of upstream's kubelet, so that
// either apiserver can talk to either node agent.
//
// Everything but /healthz needs somebody who is known and may ask: package auth decides.
package serve

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hardway/nodeagent/podworker"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/serve/auth"
	"hardway/shared/daemon"
)

// Pods is where pods are looked up.
type Pods interface {
	ByName(namespace, name string) (podworker.Pod, bool)
	Pods() []podworker.Pod
}

// Runtime is what requests reach containers through.
type Runtime interface {
	Exec(ctx context.Context, uid types.UID, id string, cmd []string, s runtime.Streams) (int, error)
	Attach(ctx context.Context, uid types.UID, id string, s runtime.Streams) error
	Dial(ctx context.Context, uid types.UID, port uint16) (net.Conn, error)
	Stats(ctx context.Context, uid types.UID) (runtime.PodStats, error)
}

// Options is what the server works with.
type Options struct {
	Node        string
	Pods        Pods
	Runtime     Runtime
	Volumes     func(ctx context.Context, pod *corev1.Pod) []stats.VolumeStats // of those that somebody measures
	RootDir     string                                                         // of pods
	ImageDir    string
	LogDir      string // such as /var/log/pods
	IdleTimeout time.Duration
	Auth        auth.Options
	Config      any // shown at /configz
	Health      *daemon.Health
	Registry    *prometheus.Registry
	Log         *zap.Logger
}

type server struct{ Options }

// Handler returns the handler of port 10250.
func Handler(o Options) http.Handler {
	s := &server{o}
	mux := http.NewServeMux()
	for _, pattern := range []string{"/containerLogs/{ns}/{pod}/{container}", "/containerLogs/{ns}/{pod}/{uid}/{container}"} {
		mux.HandleFunc("GET "+pattern, s.containerLogs)
	}
	for _, method := range []string{"GET ", "POST "} {
		mux.HandleFunc(method+"/exec/{ns}/{pod}/{container}", s.exec)
		mux.HandleFunc(method+"/exec/{ns}/{pod}/{uid}/{container}", s.exec)
		mux.HandleFunc(method+"/attach/{ns}/{pod}/{container}", s.attach)
		mux.HandleFunc(method+"/attach/{ns}/{pod}/{uid}/{container}", s.attach)
		mux.HandleFunc(method+"/portForward/{ns}/{pod}", s.portForward)
		mux.HandleFunc(method+"/portForward/{ns}/{pod}/{uid}", s.portForward)
	}
	mux.HandleFunc("GET /pods", s.pods)
	mux.HandleFunc("GET /configz", s.configz)
	mux.HandleFunc("GET /stats/summary", s.summary)
	o.Registry.MustRegister(newPodCollector(s), volumeCollector{s})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{}))
	for path, list := range map[string][]family{"/metrics/cadvisor": cadvisorFamilies, "/metrics/resource": resourceFamilies} {
		reg := prometheus.NewRegistry()
		reg.MustRegister(&usageCollector{s, list})
		if path == "/metrics/resource" {
			reg.MustRegister(newNodeCollector())
		}
		mux.Handle("GET "+path, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	}
	debug := daemon.DebugMux(o.Health, o.Registry)
	mux.Handle("/debug/pprof/", debug)
	for _, p := range []string{"/healthz", "/livez", "/readyz"} {
		mux.Handle(p, o.Health)
		mux.Handle(p+"/", o.Health)
	}
	return auth.New(o.Auth).Wrap(mux, "/healthz")
}

// find looks up the pod of a request; it answers the request itself if there is none.
func (s *server) find(w http.ResponseWriter, r *http.Request) (podworker.Pod, bool) {
	p, ok := s.Pods.ByName(r.PathValue("ns"), r.PathValue("pod"))
	if uid := r.PathValue("uid"); ok && uid != "" && uid != string(p.UID) {
		ok = false
	}
	if !ok {
		http.Error(w, "pod does not exist", http.StatusNotFound)
	}
	return p, ok
}

func (s *server) pods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{}}
	for _, p := range s.Pods.Pods() {
		pod := *p.Pod
		pod.Status = p.Status
		list.Items = append(list.Items, pod)
	}
	s.json(w, list)
}

func (s *server) configz(w http.ResponseWriter, _ *http.Request) {
	s.json(w, map[string]any{"kubeletconfig": s.Config})
}

func (s *server) json(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(data); err != nil {
		s.Log.Debug("client went away", zap.Error(err))
	}
}
