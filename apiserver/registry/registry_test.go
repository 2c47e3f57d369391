package registry

import (
	"context"
	"os"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/admission"
	"hardway/apiserver/etcd"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

var configMaps = resource.Define(scheme.Scheme, resource.Spec[corev1.ConfigMap]{
	Names:                    resource.Names{Version: "v1", Kind: "ConfigMap", Plural: "configmaps"},
	Scope:                    resource.Namespaced,
	AllowUnconditionalUpdate: true,
	Validate: func(c *corev1.ConfigMap) field.ErrorList {
		if c.Data["bad"] != "" {
			return field.ErrorList{field.Invalid(field.NewPath("data"), "bad", "must not be there")}
		}
		return nil
	},
	Warnings: func(c, _ *corev1.ConfigMap) []string {
		if c.Data["old"] != "" {
			return []string{"old is old"}
		}
		return nil
	},
})

var pods = resource.Define(scheme.Scheme, resource.Spec[corev1.Pod]{
	Names:     resource.Names{Version: "v1", Kind: "Pod", Plural: "pods"},
	Scope:     resource.Namespaced,
	SetStatus: func(dst, src *corev1.Pod) { dst.Status = src.Status },
	SpecChanged: func(p, old *corev1.Pod) bool {
		return p.Spec.NodeName != old.Spec.NodeName || p.Spec.Hostname != old.Spec.Hostname
	},
	Prepare: func(_ context.Context, p, old *corev1.Pod) {
		if old == nil {
			p.Status.Phase = corev1.PodPending
		}
	},
	GracePeriod: func(p *corev1.Pod, wish *int64) int64 {
		if p.Spec.NodeName == "" {
			return 0
		}
		if wish != nil {
			return *wish
		}
		return 30
	},
	Fields:        map[string]func(*corev1.Pod) string{"spec.nodeName": func(p *corev1.Pod) string { return p.Spec.NodeName }},
	Indexed:       []string{"spec.nodeName"},
	ReturnDeleted: true,
})

var namespaces = resource.Define(scheme.Scheme, resource.Spec[corev1.Namespace]{
	Names:     resource.Names{Version: "v1", Kind: "Namespace", Plural: "namespaces"},
	Scope:     resource.Cluster,
	SetStatus: func(dst, src *corev1.Namespace) { dst.Status = src.Status },
	Prepare: func(_ context.Context, ns, old *corev1.Namespace) {
		if old == nil {
			ns.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
		}
	},
	OnDelete: func(ns *corev1.Namespace) bool {
		ns.Status.Phase = corev1.NamespaceTerminating
		return len(ns.Spec.Finalizers) > 0
	},
	Subresources: []resource.Subresource{{Name: "finalize"}},
})

var leases = resource.Define(scheme.Scheme, resource.Spec[corev1.Secret]{
	Names:               resource.Names{Version: "v1", Kind: "Secret", Plural: "secrets"},
	Scope:               resource.Namespaced,
	AllowCreateOnUpdate: true,
})

// world is a server's storage, complete and real.
type world struct {
	*Set
	store  *store.Store
	client *clientv3.Client
}

// remote says that etcd is reached over the network, where asking for its revision costs a round trip and updates start
// from whatever the cache has.
var remote bool

// TestMain runs all tests in process and over the network.
func TestMain(m *testing.M) {
	code := m.Run()
	if remote = true; code == 0 {
		code = m.Run()
	}
	os.Exit(code)
}

// open starts etcd and makes a store on it.
func open(t *testing.T, log *zap.Logger) (*etcd.Server, *store.Store) {
	t.Helper()
	o := etcd.Options{DataDir: t.TempDir() + "/etcd", Log: log}
	if remote {
		o.ListenClient = []string{"http://127.0.0.1:0"}
	}
	server, err := etcd.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !remote {
		return server, store.New(server.Client(), store.Options{Revision: server.Revision()})
	}
	client, err := etcd.Dial(t.Context(), etcd.External{Endpoints: server.ClientURLs(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return server, store.New(client, store.Options{})
}

func newWorld(t *testing.T, chain admission.Chain, hooks map[schema.GroupResource]Hooks) *world {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	server, st := open(t, log)
	set := NewSet(Options{
		Kinds: []*resource.Kind{configMaps, pods, namespaces, leases}, Store: st, Log: log,
		Admission: func(*Set) admission.Chain { return chain },
		Hooks:     func(*Set) map[schema.GroupResource]Hooks { return hooks },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // how it ended does not matter here
		server.Stop()
	})
	if err := set.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &world{set, st, server.Client()}
}

func (w *world) configMaps() *Registry { return w.For(configMaps.GroupResource()) }
func (w *world) pods() *Registry       { return w.For(pods.GroupResource()) }
func (w *world) namespaces() *Registry { return w.For(namespaces.GroupResource()) }

func configMap(namespace, name string, data ...string) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for i := 0; i+1 < len(data); i += 2 {
		if c.Data == nil {
			c.Data = map[string]string{}
		}
		c.Data[data[i]] = data[i+1]
	}
	return c
}

func pod(namespace, name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node},
	}
}

func create[T resource.Object](t *testing.T, r *Registry, obj T) T {
	t.Helper()
	out, _, err := r.Create(t.Context(), obj, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.(T)
}

func get[T resource.Object](t *testing.T, r *Registry, namespace, name string) T {
	t.Helper()
	it, err := r.Get(t.Context(), namespace, name, "")
	if err != nil {
		t.Fatal(err)
	}
	return it.Object.(T)
}

// change runs an update that edits the current object.
func change[T resource.Object](t *testing.T, r *Registry, namespace, name, sub string, edit func(T)) T {
	t.Helper()
	out, _, _, err := r.Update(t.Context(), namespace, name, sub, func(current resource.Object) (resource.Object, error) {
		edit(current.(T))
		return current, nil
	}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return out.(T)
}

func names(l *List) []string {
	var out []string
	for _, it := range l.Items {
		out = append(out, it.Namespace+"/"+it.Name)
	}
	return out
}

func wantNames(t *testing.T, l *List, want ...string) {
	t.Helper()
	if got := names(l); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
