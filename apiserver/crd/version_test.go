package crd

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"hardway/apiserver/resource"
)

// cronTab is the sample definition, compiled, with a second version that renames nothing.
func cronTab(t *testing.T) (*definition, *versions) {
	t.Helper()
	text, err := os.ReadFile("../kinds/testdata/customresourcedefinition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := &definition{}
	if err := yaml.UnmarshalStrict(text, d); err != nil {
		t.Fatal(err)
	}
	second := *d.Spec.Versions[0].DeepCopy()
	second.Name, second.Storage = "v2", false
	d.Spec.Versions = append(d.Spec.Versions, second)
	decide(d, nil)
	all, err := compile(d, rename{})
	if err != nil {
		t.Fatal(err)
	}
	return d, all
}

func TestRead(t *testing.T) {
	_, all := cronTab(t)
	for name, test := range map[string]struct{ body, want string }{
		"known fields":        {`"spec":{"cronSpec":"x","replicas":2}`, ""},
		"an unknown field":    {`"spec":{"cronSpec":"x","extra":1}`, `unknown field "spec.extra"`},
		"unknown metadata":    {`"spec":{},"metadata":{"name":"n","extra":1}`, `unknown field "metadata.extra"`},
		"a field twice":       {`"spec":{"cronSpec":"x","cronSpec":"y"}`, `duplicate field "spec.cronSpec"`},
		"metadata of a type":  {`"metadata":{"name":1}`, "error: json: cannot unmarshal number"},
		"null":                {`"spec":null`, ""},
		"deeply nested":       {`"spec":{"a":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}", `unknown field "spec.a"`},
		"damaged":             {`"spec":{`, "error: unexpected end"},
		"labels of no string": {`"metadata":{"labels":{"a":1}}`, "error: json: cannot unmarshal number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, unknown, err := all.by["v1"].read([]byte(`{"apiVersion":"stable.example.com/v1","kind":"CronTab",` + test.body + "}"))
			var got []string
			for _, e := range unknown {
				got = append(got, e.Error())
			}
			if err != nil {
				got = append(got, "error: "+err.Error())
			}
			if text := strings.Join(got, ", "); !strings.HasPrefix(text, test.want) || test.want == "" && text != "" {
				t.Errorf("got %s, want %s", text, test.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	_, all := cronTab(t)
	v := all.by["v1"]
	object := func(spec string) resource.Object {
		obj, _, err := v.read([]byte(`{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"n"},"spec":` + spec + "}"))
		if err != nil {
			t.Fatal(err)
		}
		v.fill(obj)
		return obj
	}
	for spec, want := range map[string]string{
		`{}`:                "[]",
		`{"replicas":11}`:   "spec: Invalid value: failed rule: self.replicas <= 10",
		`{"replicas":0}`:    "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
		`{"replicas":"x"}`:  `spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"`,
		`{"cronSpec":null}`: "[]",
	} {
		if got := fmt.Sprint(v.validateNew(object(spec))); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
	}
	if errs := v.validateChange(object(`{"replicas":11,"cronSpec":"y"}`), object(`{"replicas":11}`)); len(errs) == 0 {
		t.Error("a rule over what changed was not checked")
	}
}

func TestStoredForm(t *testing.T) {
	_, all := cronTab(t)
	v1, v2 := all.by["v1"], all.by["v2"]
	const stored = `{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"generation":1,"name":"n"},"spec":{"cronSpec":"x","gone":1}}` + "\n"
	obj, err := v2.unmarshal(t.Context(), []byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	if obj.GetObjectKind().GroupVersionKind() != v2.gvk {
		t.Errorf("read as %s", obj.GetObjectKind().GroupVersionKind())
	}
	back, err := v2.marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(stored, `"gone":1`, `"replicas":1`, 1); string(back) != want {
		t.Errorf("got %s, want %s", back, want)
	}
	if _, err := v1.unmarshal(t.Context(), []byte(`{"apiVersion":"stable.example.com/v0","kind":"CronTab"}`)); err == nil {
		t.Error("a version that nobody declares was read")
	}
}
