package server

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// eventually asks until the answer is as wanted.
func (r *running) eventually(path string, code int, has string) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got, body := r.get("admin", path)
		if got == code && strings.Contains(body, has) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: %d %.400s, want %d and %s", path, got, body, code, has)
		}
	}
}

func TestCustomResources(t *testing.T) {
	text, err := os.ReadFile("../kinds/testdata/customresourcedefinition.yaml")
	if err != nil {
		t.Fatal(err)
	}
	definition, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	c, ca := files(t)
	r := start(t, c, ca)
	const definitions, objects = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/stable.example.com/v1/namespaces/default/crontabs"
	name := definitions + "/crontabs.stable.example.com"
	must := func(code int, has string) func(int, string) {
		return func(got int, body string) {
			t.Helper()
			if got != code || !strings.Contains(body, has) {
				t.Fatalf("%d %.600s, want %d and %s", got, body, code, has)
			}
		}
	}
	must(http.StatusCreated, `"storedVersions":["v1"]`)(r.send("admin", "POST", definitions, string(definition)))
	r.eventually(name, 200, `"reason":"InitialNamesAccepted"`)
	object := func(spec string) string {
		return `{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"one"},"spec":` + spec + "}"
	}
	must(422, "failed rule: self.replicas")(r.send("admin", "POST", objects, object(`{"replicas":11}`)))
	must(400, `strict decoding error: unknown field \"spec.extra\"`)(r.send("admin", "POST", objects+"?fieldValidation=Strict", object(`{"extra":1}`)))
	must(http.StatusCreated, `"replicas":1`)(r.send("admin", "POST", objects, object(`{"cronSpec":"x","extra":1}`)))
	must(200, `"items":[{"apiVersion":"stable.example.com/v1"`)(r.get("admin", objects))
	must(200, `"name":"crontabs"`)(r.get("admin", "/apis/stable.example.com/v1"))
	must(200, `com.example.stable.v1.CronTab`)(r.get("admin", "/openapi/v2"))
	must(200, `"cronSpec"`)(r.get("admin", "/openapi/v3/apis/stable.example.com/v1"))

	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, c, ca)
	r.eventually(objects+"/one", 200, `"cronSpec":"x"`)
	var one struct{ Metadata struct{ UID string } }
	_, body := r.get("admin", objects+"/one")
	if json.Unmarshal([]byte(body), &one) != nil || one.Metadata.UID == "" {
		t.Errorf("after a restart: %s", body)
	}
	must(200, "InstanceDeletionPending")(r.send("admin", "DELETE", name, ""))
	r.eventually(name, 404, "not found")
	r.eventually(objects, 404, "")
	must(http.StatusCreated, "")(r.send("admin", "POST", definitions, string(definition)))
	r.eventually(objects, 200, `"items":[]`)
}
