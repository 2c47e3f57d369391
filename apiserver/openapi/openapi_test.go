package openapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"hardway/apiserver/resource"
)

func kinds() []*resource.Kind {
	return []*resource.Kind{
		resource.Define(scheme.Scheme, resource.Spec[corev1.Pod]{
			Names: resource.Names{Version: "v1", Kind: "Pod", Plural: "pods"}, Scope: resource.Namespaced,
			SetStatus:    func(dst, src *corev1.Pod) { dst.Status = src.Status },
			Subresources: []resource.Subresource{{Name: "log", Verbs: []string{"get"}}},
		}),
		resource.Define(scheme.Scheme, resource.Spec[appsv1.Deployment]{
			Names: resource.Names{Group: "apps", Version: "v1", Kind: "Deployment", Plural: "deployments"}, Scope: resource.Namespaced,
			Subresources: []resource.Subresource{{
				Name: "scale", Kind: autoscalingv1.SchemeGroupVersion.WithKind("Scale"), Verbs: []string{"get", "patch"},
				New: func() runtime.Object { return &autoscalingv1.Scale{} },
			}},
		}),
	}
}

func field(t *testing.T, m *Model, name string) Field {
	t.Helper()
	for _, f := range m.Fields {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("%s has no field %s", m.Name, name)
	return Field{}
}

func TestModelsComeFromTheTypes(t *testing.T) {
	models := NewModels()
	pod := models.Of(reflect.TypeFor[corev1.Pod]())
	if pod.Name != "io.k8s.api.core.v1.Pod" || !strings.HasPrefix(pod.Doc, "Pod is a collection of containers") {
		t.Errorf("%s: %s", pod.Name, pod.Doc)
	}
	if f := field(t, pod, "apiVersion"); f.Type.Scalar != "string" || f.Required {
		t.Errorf("inlined field: %+v", f)
	}
	podSpec := models.Of(reflect.TypeFor[corev1.PodSpec]())
	if f := field(t, podSpec, "containers"); !f.Required || f.Merge != "map" || !reflect.DeepEqual(f.Keys, []string{"name"}) ||
		f.Strategy != "merge" || f.MergeKey != "name" || f.Type.Elem.Model.Name != "io.k8s.api.core.v1.Container" {
		t.Errorf("containers: %+v", f)
	}
	if f := field(t, podSpec, "nodeSelector"); f.Merge != "atomic" || !f.Type.IsMap {
		t.Errorf("nodeSelector: %+v", f)
	}
	port := models.Of(reflect.TypeFor[corev1.ContainerPort]())
	if f := field(t, port, "protocol"); f.Default != "TCP" {
		t.Errorf("protocol: %+v", f)
	}
	if m := models.Of(reflect.TypeFor[corev1.ObjectReference]()); !m.Atomic {
		t.Error("object references are replaced as a whole")
	}
	ephemeral := models.Of(reflect.TypeFor[corev1.EphemeralContainer]())
	field(t, ephemeral, "image") // of the embedded struct
	deployment := models.Of(reflect.TypeFor[appsv1.DeploymentSpec]())
	if f := field(t, deployment, "selector"); !f.Required {
		t.Error("the selector of a deployment is required, though a pointer")
	}
	for goType, format := range map[string]string{
		"io.k8s.apimachinery.pkg.apis.meta.v1.Time": "date-time", "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
	} {
		found := false
		for _, m := range models.All() {
			if m.Name == goType {
				found = m.Scalar == "string" && m.Format == format
			}
		}
		if !found {
			t.Errorf("%s is no string of format %s", goType, format)
		}
	}
}

func get(t *testing.T, serve func(w http.ResponseWriter, r *http.Request) error, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	if err := serve(w, r); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestDocumentsAreReadByTheirLibraries reads what we write with the libraries that clients use.
func TestDocumentsAreReadByTheirLibraries(t *testing.T) {
	s := New(kinds())

	var v2doc spec.Swagger
	if err := json.Unmarshal(get(t, s.V2).Body.Bytes(), &v2doc); err != nil {
		t.Fatal(err)
	}
	podSpec := v2doc.Definitions["io.k8s.api.core.v1.PodSpec"].Properties["containers"]
	if podSpec.Extensions["x-kubernetes-patch-merge-key"] != "name" || podSpec.Extensions["x-kubernetes-list-type"] != "map" {
		t.Errorf("containers in v2: %+v", podSpec)
	}
	var pb openapiv2.Document
	w := get(t, s.V2, "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	if _, _, err := mime.ParseMediaType(w.Header().Get("Content-Type")); err != nil {
		t.Errorf("clients cannot read the media type %q: %v", w.Header().Get("Content-Type"), err)
	}
	if err := proto.Unmarshal(w.Body.Bytes(), &pb); err != nil || pb.GetSwagger() != "2.0" || len(pb.GetPaths().GetPath()) == 0 {
		t.Errorf("protobuf: %v", err)
	}

	serveApps := func(w http.ResponseWriter, r *http.Request) error { _, err := s.V3(w, r, "apis/apps/v1"); return err }
	var v3doc spec3.OpenAPI
	if err := json.Unmarshal(get(t, serveApps).Body.Bytes(), &v3doc); err != nil {
		t.Fatal(err)
	}
	one := v3doc.Paths.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
	if one == nil || one.Get == nil || one.Put == nil || one.Patch == nil || one.Delete == nil || one.Post != nil {
		t.Fatalf("paths of an object: %+v", one)
	}
	if gvk := one.Patch.Extensions["x-kubernetes-group-version-kind"]; !reflect.DeepEqual(gvk, map[string]any{"group": "apps", "version": "v1", "kind": "Deployment"}) {
		t.Errorf("kind of a patch: %v", gvk)
	}
	var names []string
	for _, p := range one.Patch.Parameters {
		names = append(names, p.Name)
	}
	if strings.Join(names, " ") != "dryRun fieldManager fieldValidation force" {
		t.Errorf("parameters of a patch: %v", names)
	}
	if scale := v3doc.Paths.Paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]; scale == nil || scale.Get == nil || scale.Put != nil {
		t.Errorf("paths of a subresource: %+v", scale)
	}
	if v3doc.Paths.Paths["/apis/apps/v1/deployments"] == nil || v3doc.Components.Schemas["io.k8s.api.core.v1.PodSpec"] == nil {
		t.Error("lacks the list across namespaces, or models of another group")
	}
}

func TestDocumentsAreKeptByTheirHash(t *testing.T) {
	s := New(kinds())
	w := get(t, s.V2, "Accept-Encoding: gzip")
	if w.Header().Get("Content-Encoding") != "gzip" || w.Header().Get("ETag") == "" {
		t.Errorf("headers %v", w.Header())
	}
	if again := get(t, s.V2, "If-None-Match: "+w.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with its ETag: %d, %d bytes", again.Code, again.Body.Len())
	}
	if other := get(t, New(kinds()).V2); other.Header().Get("ETag") != w.Header().Get("ETag") {
		t.Error("another server has another ETag for the same document")
	}
	var root struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(get(t, s.V3Root).Body.Bytes(), &root); err != nil {
		t.Fatal(err)
	}
	url := root.Paths["api/v1"].ServerRelativeURL
	for _, test := range []struct {
		url  string
		code int
	}{{url, http.StatusOK}, {"/openapi/v3/api/v1?hash=OLD", http.StatusMovedPermanently}} {
		rec := httptest.NewRecorder()
		found, err := s.V3(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.url, nil), "api/v1")
		if !found || err != nil || rec.Code != test.code {
			t.Errorf("%s: %d %v", test.url, rec.Code, err)
		}
		if test.code == http.StatusMovedPermanently && rec.Header().Get("Location") != url {
			t.Errorf("leads to %s", rec.Header().Get("Location"))
		}
	}
	if found, _ := s.V3(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), "apis/none/v1"); found {
		t.Error("found a version that is not there")
	}
}
