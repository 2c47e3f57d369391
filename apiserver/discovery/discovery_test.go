package discovery

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
)

func kinds() []*resource.Kind {
	return []*resource.Kind{
		resource.Define(scheme.Scheme, resource.Spec[corev1.Event]{
			Names:    resource.Names{Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"}},
			Scope:    resource.Namespaced,
			Versions: []resource.Version{{Names: resource.Names{Group: "events.k8s.io", Version: "v1", Kind: "Event"}}},
		}),
		resource.Define(scheme.Scheme, resource.Spec[appsv1.Deployment]{
			Names:     resource.Names{Group: "apps", Version: "v1", Kind: "Deployment", Plural: "deployments", Categories: []string{"all"}},
			Scope:     resource.Namespaced,
			SetStatus: func(dst, src *appsv1.Deployment) { dst.Status = src.Status },
			Subresources: []resource.Subresource{
				{Name: "scale", Kind: autoscalingv1.SchemeGroupVersion.WithKind("Scale"), Verbs: []string{"update", "get", "patch"}},
			},
			Versions: []resource.Version{{Names: resource.Names{Group: "apps", Version: "v1beta1", Kind: "Deployment"}}},
		}),
		resource.Define(scheme.Scheme, resource.Spec[corev1.Node]{
			Names: resource.Names{Version: "v1", Kind: "Node", Plural: "nodes"}, Verbs: []string{"list", "get"},
		}),
	}
}

func TestPlainDiscovery(t *testing.T) {
	d := New(kinds(), "192.0.2.1:6443")
	var groups []string
	for _, g := range d.Groups().Groups {
		groups = append(groups, g.Name+" prefers "+g.PreferredVersion.Version)
	}
	if want := []string{"events.k8s.io prefers v1", "apps prefers v1"}; !slices.Equal(groups, want) {
		t.Errorf("groups %v", groups)
	}
	if g := d.Group("apps"); g == nil || len(g.Versions) != 2 || g.Versions[1].GroupVersion != "apps/v1beta1" {
		t.Errorf("group %v", g)
	}
	if d.Group("none") != nil || d.Group("") != nil || d.Resources(schema.GroupVersion{Group: "apps", Version: "v9"}) != nil {
		t.Error("found what is not there")
	}
	got := d.Resources(schema.GroupVersion{Group: "apps", Version: "v1"}).APIResources
	all := metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	want := []metav1.APIResource{
		{Name: "deployments", SingularName: "deployment", Namespaced: true, Kind: "Deployment", Verbs: all, Categories: []string{"all"},
			StorageVersionHash: "8aSe+NMegvE="},
		{Name: "deployments/scale", Namespaced: true, Kind: "Scale", Group: "autoscaling", Version: "v1", Verbs: metav1.Verbs{"get", "patch", "update"}},
		{Name: "deployments/status", Namespaced: true, Kind: "Deployment", Verbs: metav1.Verbs{"get", "patch", "update"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	core := d.Resources(schema.GroupVersion{Version: "v1"}).APIResources
	if len(core) != 2 || core[1].Name != "nodes" || core[1].Namespaced || !slices.Equal(core[1].Verbs, []string{"get", "list"}) {
		t.Errorf("core %+v", core)
	}
}

func TestAggregatedSaysTheSame(t *testing.T) {
	d := New(kinds(), "")
	for _, version := range []string{"v2", "v2beta1"} {
		doc, err := d.Aggregated(false, version)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			APIVersion string
			Items      []struct {
				Metadata struct{ Name string }
				Versions []struct {
					Version   string
					Resources []struct {
						Resource, Scope string
						Verbs           []string
						Subresources    []struct {
							Subresource  string
							ResponseKind metav1.GroupVersionKind
						}
					}
				}
			}
		}
		if err := json.Unmarshal(doc.Body, &list); err != nil {
			t.Fatal(err)
		}
		if list.APIVersion != "apidiscovery.k8s.io/"+version || len(list.Items) != 2 || list.Items[1].Metadata.Name != "apps" {
			t.Fatalf("%s", doc.Body)
		}
		r := list.Items[1].Versions[0].Resources[0]
		if r.Resource != "deployments" || r.Scope != "Namespaced" || len(r.Verbs) != 8 || len(r.Subresources) != 2 ||
			r.Subresources[0].ResponseKind.Kind != "Scale" || r.Subresources[0].ResponseKind.Group != "autoscaling" {
			t.Errorf("%+v", r)
		}
		again, err := New(kinds(), "").Aggregated(false, version)
		if err != nil || again.ETag != doc.ETag {
			t.Errorf("another server has the ETag %s instead of %s, %v", again.ETag, doc.ETag, err)
		}
	}
}
