package apply

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
)

func pods() *resource.Kind {
	return resource.Define(scheme.Scheme, resource.Spec[corev1.Pod]{
		Names: resource.Names{Version: "v1", Kind: "Pod", Plural: "pods"}, Scope: resource.Namespaced,
		SetStatus: func(dst, src *corev1.Pod) { dst.Status = src.Status },
	})
}

func pod(text string) *corev1.Pod {
	p := &corev1.Pod{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		panic(err)
	}
	p.TypeMeta = metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
	return p
}

func TestPatches(t *testing.T) {
	base := `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"}]}}`
	for _, test := range []struct {
		name, data, validation string
		form                   types.PatchType
		want                   string // of the containers and labels
		warnings               int
		reason                 metav1.StatusReason
		message                string
	}{
		{name: "strategic: lists merge by name", form: types.StrategicMergePatchType, data: `{"spec":{"containers":[{"name":"b","image":"3"}]}}`,
			want: `{"c":[{"name":"a","image":"1","resources":{}},{"name":"b","image":"3","resources":{}}],"l":null}`},
		{name: "strategic: delete an item", form: types.StrategicMergePatchType, data: `{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}`,
			want: `{"c":[{"name":"b","image":"2","resources":{}}],"l":null}`},
		{name: "merge: lists are replaced", form: types.MergePatchType, data: `{"spec":{"containers":[{"name":"b","image":"3"}]},"metadata":{"labels":{"x":"y"}}}`,
			want: `{"c":[{"name":"b","image":"3","resources":{}}],"l":{"x":"y"}}`},
		{name: "JSON", form: types.JSONPatchType, data: `[{"op":"replace","path":"/spec/containers/0/image","value":"9"},{"op":"remove","path":"/spec/containers/1"}]`,
			want: `{"c":[{"name":"a","image":"9","resources":{}}],"l":null}`},
		{name: "unknown field: warning", form: types.MergePatchType, data: `{"spek":{}}`, validation: metav1.FieldValidationWarn, warnings: 1,
			want: `{"c":[{"name":"a","image":"1","resources":{}},{"name":"b","image":"2","resources":{}}],"l":null}`},
		{name: "unknown field, strictly", form: types.StrategicMergePatchType, data: `{"spek":{}}`, validation: metav1.FieldValidationStrict,
			reason: metav1.StatusReasonInvalid, message: `unknown field "spek"`},
		{name: "unknown field in a JSON patch", form: types.JSONPatchType, data: `[{"op":"test","path":"/kind","value":"Pod","x":1}]`, validation: metav1.FieldValidationStrict,
			reason: metav1.StatusReasonInvalid, message: `json patch unknown field "[0].x"`},
		{name: "no patch", form: types.JSONPatchType, data: `{"op":"test"}`, reason: metav1.StatusReasonBadRequest},
		{name: "no JSON", form: types.MergePatchType, data: `{`, reason: metav1.StatusReasonBadRequest},
		{name: "no object", form: types.StrategicMergePatchType, data: `[]`, reason: metav1.StatusReasonBadRequest},
		{name: "failed test", form: types.JSONPatchType, data: `[{"op":"test","path":"/metadata/name","value":"x"}]`, message: "testing value /metadata/name failed"},
		{name: "wrong type", form: types.MergePatchType, data: `{"spec":{"containers":"none"}}`, reason: metav1.StatusReasonInvalid},
		{name: "other kind", form: types.MergePatchType, data: `{"kind":"Node"}`, reason: metav1.StatusReasonBadRequest, message: "do not match"},
		{name: "too many steps", form: types.JSONPatchType, data: "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"Pod"},`, maxOperations) + `{"op":"test","path":"/kind","value":"Pod"}]`,
			reason: metav1.StatusReasonRequestEntityTooLarge, message: "maximum operations"},
	} {
		t.Run(test.name, func(t *testing.T) {
			current, into := pod(base), &corev1.Pod{}
			warnings, err := Patch{Type: test.form, Data: []byte(test.data), Validation: test.validation}.To(current, into, nil)
			if test.want == "" {
				if _, ok := err.(apierrors.APIStatus); !ok || test.reason != "" && apierrors.ReasonForError(err) != test.reason || !strings.Contains(err.Error(), test.message) {
					t.Fatalf("%s: %v", apierrors.ReasonForError(err), err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(map[string]any{"c": into.Spec.Containers, "l": into.Labels})
			if err != nil || string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if len(warnings) != test.warnings {
				t.Errorf("warnings %v", warnings)
			}
			if again := pod(base); !equalJSON(t, current, again) {
				t.Error("the current object was changed")
			}
		})
	}
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

func TestOwnersOfFields(t *testing.T) {
	kind := pods()
	m, err := NewManager(NewTypes([]*resource.Kind{kind}), kind, kind.GVK(), "")
	if err != nil {
		t.Fatal(err)
	}
	created := m.Update(kind.New(), pod(`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"1"}]},"status":{"phase":"Running"}}`), "creator")
	created.SetUID("u")
	if got := owned(created); got != `creator: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{}}}}}` {
		t.Errorf("after the create: %s", got)
	}
	patch, _, err := Patch{Data: []byte("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: '2'}]}}")}.Unstructured()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(created.DeepCopyObject().(resource.Object), patch, "applier", false); !apierrors.IsConflict(err) {
		t.Errorf("apply of another's field: %v", err)
	}
	applied, err := m.Apply(created.DeepCopyObject().(resource.Object), patch, "applier", true)
	if err != nil || applied.(*corev1.Pod).Spec.Containers[0].Image != "2" || applied.(*corev1.Pod).Status.Phase != "Running" {
		t.Fatalf("forced apply: %v, %v", applied, err)
	}
	if got := owned(applied); !strings.Contains(got, `applier: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}}}}`) {
		t.Errorf("after the apply: %s", got)
	}
	again, err := m.Apply(applied.DeepCopyObject().(resource.Object), patch, "applier", false)
	if err != nil || !equalJSON(t, applied, again) {
		t.Errorf("an apply that changes nothing changed something: %v", err)
	}
	unknown, _, _ := Patch{Data: []byte("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {foo: 1}}")}.Unstructured()
	if _, err := m.Apply(applied, unknown, "applier", false); err == nil || !strings.Contains(err.Error(), ".spec.foo: field not declared in schema") {
		t.Errorf("apply of an unknown field: %v", err)
	}
}

func owned(obj resource.Object) string {
	var out []string
	for _, e := range obj.GetManagedFields() {
		out = append(out, e.Manager+": "+e.FieldsV1.GetRawString())
	}
	return strings.Join(out, "; ")
}

// TestTypesAgreeWithUpstreams compares the fields that an object is found to have with what the published schema says.
func TestTypesAgreeWithUpstreams(t *testing.T) {
	deployment := resource.Define(scheme.Scheme, resource.Spec[appsv1.Deployment]{Names: resource.Names{Group: "apps", Version: "v1", Kind: "Deployment", Plural: "deployments"}})
	ours, theirs := NewTypes([]*resource.Kind{pods(), deployment}), applyconfigurations.NewTypeConverter(scheme.Scheme)
	full := `{"metadata":{"name":"p","namespace":"n","labels":{"a":"b"},"finalizers":["x/y"],"ownerReferences":[{"apiVersion":"v1","kind":"K","name":"o","uid":"u"}]},
		"spec":{"nodeSelector":{"a":"b"},"tolerations":[{"key":"k"}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}}],"imagePullSecrets":[{"name":"s"}],
		"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"t","whenUnsatisfiable":"DoNotSchedule"}],
		"containers":[{"name":"a","image":"1","env":[{"name":"E","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],"args":["x"],
		"ports":[{"containerPort":80},{"containerPort":80,"protocol":"UDP"}],"resources":{"limits":{"cpu":"1"}},"livenessProbe":{"httpGet":{"port":"web"}},
		"volumeMounts":[{"name":"v","mountPath":"/v"}],"securityContext":{"capabilities":{"add":["NET_ADMIN"]}}}]},
		"status":{"conditions":[{"type":"Ready","status":"True"}],"podIPs":[{"ip":"10.0.0.1"}],"startTime":"2026-01-01T00:00:00Z"}}`
	p := pod(full)
	d := &appsv1.Deployment{TypeMeta: metav1.TypeMeta{Kind: "Deployment", APIVersion: "apps/v1"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, Template: corev1.PodTemplateSpec{Spec: p.Spec},
	}}
	for _, obj := range []runtime.Object{p, d} {
		a, err := ours.ObjectToTyped(obj)
		if err != nil {
			t.Fatal(err)
		}
		b, err := theirs.ObjectToTyped(obj)
		if err != nil {
			t.Fatal(err)
		}
		x, err := a.ToFieldSet()
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.ToFieldSet()
		if err != nil {
			t.Fatal(err)
		}
		if !x.Equals(y) {
			t.Errorf("%T: only ours:\n%s\nonly theirs:\n%s", obj, x.Difference(y), y.Difference(x))
		}
	}
}

func TestManagerName(t *testing.T) {
	for _, test := range []struct{ given, agent, want string }{
		{"me", "kubectl/v1.36", "me"},
		{"", "kubectl/v1.36 (linux)", "kubectl"},
		{"", "bell\a/1", "bell"},
		{"", strings.Repeat("ä", 200), strings.Repeat("ä", 64)},
	} {
		if got := ManagerName(test.given, test.agent); got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.given, test.agent, got, test.want)
		}
	}
}

func FuzzPatch(f *testing.F) {
	LimitCopies(1 << 20)
	for _, data := range []string{
		`{"spec":{"containers":[{"name":"b","$patch":"delete"}]}}`, `[{"op":"copy","from":"/spec","path":"/spec/x"}]`, `{"$retainKeys":[],"metadata":null}`,
		`{"spec":{"$setElementOrder/containers":[{"name":"b"}]}}`,
	} {
		for form := range 3 {
			f.Add(form, data)
		}
	}
	forms := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType}
	f.Fuzz(func(t *testing.T, form int, data string) {
		current := pod(`{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"1"}]}}`)
		p := Patch{Type: forms[max(form, -form)&0xff%3], Data: []byte(data), Validation: metav1.FieldValidationWarn}
		if _, err := p.To(current, &corev1.Pod{}, nil); err != nil && len(err.Error()) == 0 {
			t.Error("an error without words")
		}
		p.Unstructured() //nolint:errcheck // must only not panic
	})
}
