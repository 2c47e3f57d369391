package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const configMaps = "/api/v1/namespaces/dev/configmaps"

func TestErrorsAreWhatClientsKnow(t *testing.T) {
	e := newEnv(t)
	e.must("POST", configMaps, `{"metadata":{"name":"taken"}}`)
	for _, test := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		reason                   metav1.StatusReason
		message                  string
	}{
		{name: "absent", method: "GET", path: configMaps + "/none", code: 404, reason: "NotFound", message: `configmaps "none" not found`},
		{name: "taken", method: "POST", path: configMaps, body: `{"metadata":{"name":"taken"}}`, code: 409, reason: "AlreadyExists",
			message: `configmaps "taken" already exists`},
		{name: "stale update", method: "PUT", path: configMaps + "/taken", body: `{"metadata":{"name":"taken","resourceVersion":"1"}}`, code: 409,
			reason: "Conflict", message: `Operation cannot be fulfilled on configmaps "taken": the object has been modified; please apply your changes to the latest version and try again`},
		{name: "other name", method: "PUT", path: configMaps + "/taken", body: `{"metadata":{"name":"x"}}`, code: 400, reason: "BadRequest",
			message: "the name of the object (x) does not match the name on the URL (taken)"},
		{name: "other namespace", method: "POST", path: configMaps, body: `{"metadata":{"name":"x","namespace":"y"}}`, code: 400, reason: "BadRequest",
			message: "the namespace of the provided object does not match the namespace sent on the request"},
		{name: "other kind", method: "POST", path: configMaps, body: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, code: 400, reason: "BadRequest",
			message: `Secret in version "v1" cannot be handled as a ConfigMap: the kind in the data does not match the kind of the URL`},
		{name: "other version", method: "POST", path: configMaps, body: `{"apiVersion":"apps/v1","kind":"Deployment"}`, code: 400, reason: "BadRequest",
			message: "the API version in the data (apps/v1) does not match the expected API version (v1)"},
		{name: "wrong type", method: "POST", path: configMaps, body: `{"apiVersion":"v1","kind":"ConfigMap","data":3}`, code: 400, reason: "BadRequest",
			message: `ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type map[string]string`},
		{name: "no JSON", method: "POST", path: configMaps, body: `hello`, code: 400, reason: "BadRequest", message: "couldn't get version/kind; json parse error"},
		{name: "unknown field, strictly", method: "POST", path: configMaps + "?fieldValidation=Strict", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"spec":{}}`,
			code: 400, reason: "BadRequest", message: `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "spec"`},
		{name: "field twice, strictly", method: "POST", path: configMaps + "?fieldValidation=Strict", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","name":"y"}}`,
			code: 400, reason: "BadRequest", message: `strict decoding error: duplicate field "metadata.name"`},
		{name: "unknown directive", method: "POST", path: configMaps + "?fieldValidation=Maybe", body: `{}`, code: 422, reason: "Invalid", message: "fieldValidation"},
		{name: "unknown dry run", method: "POST", path: configMaps + "?dryRun=Some", body: `{}`, code: 422, reason: "Invalid", message: "dryRun"},
		{name: "bad name", method: "POST", path: configMaps, body: `{"metadata":{"name":"Ä"}}`, code: 422, reason: "Invalid", message: "a lowercase RFC 1123 subdomain"},
		{name: "body of an unknown type", method: "POST", path: configMaps, body: `<x/>`, headers: []string{"Content-Type: text/xml"}, code: 415, reason: "UnsupportedMediaType",
			message: "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{name: "patch of an unknown type", method: "PATCH", path: configMaps + "/taken", body: `{}`, headers: []string{"Content-Type: application/json"}, code: 415,
			reason: "UnsupportedMediaType", message: "application/strategic-merge-patch+json"},
		{name: "answer of an unknown type", method: "GET", path: configMaps, headers: []string{"Accept: text/html"}, code: 406, reason: "NotAcceptable",
			message: "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{name: "table of a review", method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body: `{}`,
			headers: []string{"Accept: application/json;as=Table;g=meta.k8s.io;v=v1"}, code: 406, reason: "NotAcceptable", message: "only the following media types are accepted"},
		{name: "unknown field selector", method: "GET", path: configMaps + "?fieldSelector=data.x%3D1", code: 400, reason: "BadRequest",
			message: `"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{name: "unknown field selector of a pod", method: "GET", path: "/api/v1/pods?fieldSelector=spec.x%3D1", code: 400, reason: "BadRequest", message: "field label not supported: spec.x"},
		{name: "bad label selector", method: "GET", path: configMaps + "?labelSelector=a%3D%3D%3D", code: 400, reason: "BadRequest", message: "unable to parse requirement"},
		{name: "bad limit", method: "GET", path: configMaps + "?limit=many", code: 400, reason: "BadRequest", message: `strconv.ParseInt: parsing "many": invalid syntax`},
		{name: "bad continue", method: "GET", path: configMaps + "?continue=xyz", code: 400, reason: "BadRequest", message: "continue"},
		{name: "bad match", method: "GET", path: configMaps + "?resourceVersionMatch=Exact", code: 422, reason: "Invalid", message: "resourceVersionMatch"},
		{name: "method", method: "POST", path: configMaps + "/taken", body: "{}", code: 405, reason: "MethodNotAllowed", message: "create is not supported on resources of kind \"configmaps\""},
		{name: "create without a namespace", method: "POST", path: "/api/v1/configmaps", body: "{}", code: 405, reason: "MethodNotAllowed", message: "not supported"},
		{name: "subresource", method: "GET", path: configMaps + "/taken/status", code: 404, reason: "NotFound", message: "the server could not find the requested resource"},
		{name: "too large", method: "POST", path: configMaps, body: strings.Repeat(" ", MaxBody+1), code: 413, reason: "RequestEntityTooLarge", message: "limit is 3145728"},
		{name: "impersonation of nobody", method: "GET", path: configMaps, headers: []string{"Impersonate-Group: root"}, code: 400, reason: "BadRequest", message: "without impersonating a user"},
		{name: "anonymous", method: "GET", path: configMaps, headers: []string{"Anonymous: yes"}, code: 401, reason: "Unauthorized", message: "Unauthorized"},
		{name: "delete of what is not there", method: "DELETE", path: configMaps + "/none", code: 404, reason: "NotFound", message: `configmaps "none" not found`},
		{name: "delete with a wrong uid", method: "DELETE", path: configMaps + "/taken", body: `{"preconditions":{"uid":"x"}}`, code: 409, reason: "Conflict", message: "the UID in the precondition (x) does not match"},
		{name: "delete with two wishes", method: "DELETE", path: configMaps + "/taken?propagationPolicy=Orphan&orphanDependents=true", code: 422, reason: "Invalid", message: "propagationPolicy"},
		{name: "timeout that is none", method: "GET", path: configMaps + "?timeout=soon", code: 400, reason: "BadRequest", message: `invalid duration "soon"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := e.do(test.method, test.path, test.body, test.headers...)
			if a.code != test.code {
				t.Fatalf("code %d, want %d: %s", a.code, test.code, a.body)
			}
			s := a.status(t)
			if s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" || int(s.Code) != a.code {
				t.Errorf("not a proper Status: %s", a.body)
			}
			if s.Reason != test.reason || !strings.Contains(s.Message, test.message) {
				t.Errorf("%s: %s\nwant %s: %s", s.Reason, s.Message, test.reason, test.message)
			}
		})
	}
	for _, path := range []string{"/nothing", "/api/v2/pods", "/apis/none/v1/pods", "/apis/apps/v1/namespaces/d/nothing", "/api/v1/namespaces/dev/nodes/n", "/apis/none", "/api/v7"} {
		if a := e.do("GET", path, ""); a.code != 404 || a.body != "404 page not found\n" {
			t.Errorf("%s: %d %q", path, a.code, a.body)
		}
	}
}

func TestUnknownFieldsEarnWarnings(t *testing.T) {
	e := newEnv(t)
	a := e.must("POST", configMaps, `{"metadata":{"name":"x","nama":"y"},"spec":{}}`)
	if got := a.header.Values("Warning"); len(got) != 2 || got[0] != `299 - "unknown field \"metadata.nama\""` || got[1] != `299 - "unknown field \"spec\""` {
		t.Errorf("warnings %q", got)
	}
	a = e.must("POST", configMaps+"?fieldValidation=Ignore", `{"metadata":{"name":"y"},"spec":{}}`)
	if got := a.header.Values("Warning"); len(got) != 0 {
		t.Errorf("warnings though they are to be ignored: %q", got)
	}
	a = e.must("PATCH", configMaps+"/y", `{"spec":{}}`)
	if got := a.header.Values("Warning"); len(got) != 1 || got[0] != `299 - "unknown field \"spec\""` {
		t.Errorf("warnings of a patch %q", got)
	}
	if a := e.do("PATCH", configMaps+"/y?fieldValidation=Strict", `{"spec":{}}`); a.code != 422 || !strings.Contains(a.body, `strict decoding error: unknown field \"spec\"`) {
		t.Errorf("strict patch: %d %s", a.code, a.body)
	}
	yaml := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: z\n  name: z\n"
	if a := e.do("POST", configMaps+"?fieldValidation=Strict", yaml, "Content-Type: application/yaml"); a.code != 400 || !strings.Contains(a.body, "already set in map") {
		t.Errorf("YAML with a key twice: %d %s", a.code, a.body)
	}
}

func TestObjectsHaveTheWishedForm(t *testing.T) {
	e := newEnv(t)
	e.must("POST", configMaps, `{"metadata":{"name":"a"},"data":{"k":"v"}}`)
	for _, test := range []struct {
		name, path, accept, mediaType, begins string
		has                                   []string
	}{
		{name: "JSON", path: configMaps + "/a", mediaType: mediaJSON, begins: `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a",`},
		{name: "pretty", path: configMaps + "/a?pretty=true", mediaType: mediaJSON, begins: "{\n  \"kind\": \"ConfigMap\","},
		{name: "YAML", path: configMaps + "/a", accept: mediaYAML, mediaType: mediaYAML, begins: "apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap"},
		{name: "protobuf", path: configMaps + "/a", accept: mediaProtobuf, mediaType: mediaProtobuf, begins: "k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12"},
		{name: "the first that is known", path: configMaps + "/a", accept: "text/html, application/json;q=0.5, */*;q=0.1", mediaType: mediaJSON, begins: `{"kind":"ConfigMap"`},
		{name: "bare metadata", path: configMaps + "/a", accept: "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", mediaType: mediaJSON,
			begins: `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a",`},
		{name: "table", path: configMaps + "/a", accept: "application/json;as=Table;g=meta.k8s.io;v=v1", mediaType: mediaJSON,
			begins: `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"`,
			has:    []string{`{"name":"Name","type":"string","format":"name"`, `"cells":["a",1,"`, `"object":{"kind":"PartialObjectMetadata"`}},
		{name: "table in protobuf falls back", path: configMaps + "/a", accept: "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json", mediaType: mediaJSON,
			begins: `{"kind":"ConfigMap"`},
		{name: "list", path: configMaps, mediaType: mediaJSON, begins: `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"`, has: []string{`"items":[{"metadata":{"name":"a"`}},
		{name: "pretty list", path: configMaps + "?pretty=1", mediaType: mediaJSON, begins: "{\n  \"kind\": \"ConfigMapList\",", has: []string{"  \"items\": [\n    {\n      \"metadata\": {\n        \"name\": \"a\""}},
		{name: "YAML list", path: configMaps, accept: mediaYAML, mediaType: mediaYAML, begins: "apiVersion: v1\nitems:\n- data:\n    k: v\n"},
		{name: "protobuf list", path: configMaps, accept: mediaProtobuf, mediaType: mediaProtobuf, begins: "k8s\x00\n\x13\n\x02v1\x12\rConfigMapList\x12"},
		{name: "empty list", path: "/api/v1/namespaces/none/configmaps", mediaType: mediaJSON, has: []string{`"items":[]}`}},
		{name: "list of metadata", path: configMaps, accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", mediaType: mediaJSON,
			begins: `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1",`, has: []string{`"items":[{"kind":"PartialObjectMetadata"`}},
		{name: "table of whole objects", path: configMaps + "?includeObject=Object", accept: "application/json;as=Table;g=meta.k8s.io;v=v1", mediaType: mediaJSON,
			has: []string{`"object":{"kind":"ConfigMap","apiVersion":"v1"`}},
		{name: "table of nothing else", path: configMaps + "?includeObject=None", accept: "application/json;as=Table;g=meta.k8s.io;v=v1", mediaType: mediaJSON, has: []string{`"object":null`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := e.must("GET", test.path, "", "Accept: "+test.accept)
			if got := a.header.Get("Content-Type"); got != test.mediaType {
				t.Errorf("media type %q", got)
			}
			if !strings.HasPrefix(a.body, test.begins) {
				t.Errorf("begins %.200q\nwant   %q", a.body, test.begins)
			}
			for _, part := range test.has {
				if !strings.Contains(a.body, part) {
					t.Errorf("lacks %q: %s", part, a.body)
				}
			}
			if strings.HasPrefix(a.body, "{") && !json.Valid([]byte(a.body)) {
				t.Errorf("invalid JSON: %s", a.body)
			}
		})
	}
	if a := e.do("HEAD", configMaps+"/a", ""); a.code != 200 || a.body != "" || a.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %d %q %v", a.code, a.body, a.header)
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	e := newEnv(t)
	e.must("POST", configMaps, `{"metadata":{"name":"big"},"data":{"k":"`+strings.Repeat("x", gzipFrom)+`"}}`)
	e.must("POST", configMaps, `{"metadata":{"name":"small"}}`)
	for path, want := range map[string]string{"/big": "gzip", "/small": "", "": "gzip"} {
		a := e.must("GET", configMaps+path, "", "Accept-Encoding: gzip")
		if got := a.header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: encoded as %q, want %q", path, got, want)
		}
		if plain := e.must("GET", configMaps+path, "", "Accept-Encoding: identity"); plain.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for a client that did not ask", path)
		}
	}
}

func TestWritesCycle(t *testing.T) {
	e := newEnv(t)
	a := e.must("POST", configMaps+"?fieldManager=me", `{"metadata":{"generateName":"g-"},"data":{"a":"1"}}`)
	if a.code != http.StatusCreated {
		t.Errorf("create: %d", a.code)
	}
	var made metav1.PartialObjectMetadata
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		t.Fatal(err)
	}
	path := configMaps + "/" + made.Name
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Manager != "me" {
		t.Errorf("managed fields %v", made.ManagedFields)
	}
	for _, step := range []struct{ name, media, body, has string }{
		{"JSON patch", "application/json-patch+json", `[{"op":"test","path":"/data/a","value":"1"},{"op":"add","path":"/data/b","value":"2"}]`, `"data":{"a":"1","b":"2"}`},
		{"merge patch", "application/merge-patch+json", `{"data":{"a":null,"c":"3"}}`, `"data":{"b":"2","c":"3"}`},
		{"strategic merge patch", "application/strategic-merge-patch+json", `{"data":{"d":"4"},"metadata":{"labels":{"l":"1"}}}`, `"data":{"b":"2","c":"3","d":"4"}`},
	} {
		if a := e.must("PATCH", path, step.body, "Content-Type: "+step.media); !strings.Contains(a.body, step.has) {
			t.Errorf("%s: %s", step.name, a.body)
		}
	}
	if a := e.do("PATCH", path, `[{"op":"test","path":"/data/b","value":"9"}]`, "Content-Type: application/json-patch+json"); a.code != 422 {
		t.Errorf("failed test of a JSON patch: %d %s", a.code, a.body)
	}
	if a := e.do("PATCH", path, `{"metadata":{"resourceVersion":"1"}}`); a.code != 409 {
		t.Errorf("patch of a named old version: %d %s", a.code, a.body)
	}
	if a := e.must("PUT", path+"?dryRun=All", `{"metadata":{"name":"`+made.Name+`"},"data":{"only":"x"}}`); !strings.Contains(a.body, `"data":{"only":"x"}`) {
		t.Errorf("dry run shows %s", a.body)
	}
	if a := e.must("GET", path, ""); strings.Contains(a.body, "only") {
		t.Error("a dry run was stored")
	}
	a = e.must("DELETE", path, "")
	if s := a.status(t); s.Status != "Success" || s.Details == nil || s.Details.Name != made.Name || s.Details.Kind != "configmaps" || s.Details.UID != made.UID {
		t.Errorf("delete answers %s", a.body)
	}
	e.must("POST", configMaps, `{"metadata":{"name":"m1","labels":{"x":"1"}}}`)
	e.must("POST", configMaps, `{"metadata":{"name":"m2"}}`)
	if a := e.must("DELETE", configMaps+"?labelSelector=x%3D1", ""); !strings.Contains(a.body, `"name":"m1"`) || strings.Contains(a.body, `"name":"m2"`) {
		t.Errorf("deletecollection: %s", a.body)
	}
	e.must("GET", configMaps+"/m2", "")
}

func TestServerSideApply(t *testing.T) {
	e := newEnv(t)
	apply := func(manager, extra, value string) answer {
		return e.do("PATCH", configMaps+"/a?fieldManager="+manager+extra, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: "+value+"}\n",
			"Content-Type: application/apply-patch+yaml")
	}
	if a := apply("one", "", "v1"); a.code != http.StatusCreated {
		t.Fatalf("apply of a new object: %d %s", a.code, a.body)
	}
	before := apply("one", "", "v1")
	again := apply("one", "", "v1")
	if before.body != again.body {
		t.Errorf("an apply that changes nothing changed something:\n%s\n%s", before.body, again.body)
	}
	a := apply("two", "", "v2")
	if s := a.status(t); a.code != 409 || !strings.Contains(s.Message, `conflict with "one": .data.k`) || len(s.Details.Causes) != 1 ||
		s.Details.Causes[0].Type != metav1.CauseTypeFieldManagerConflict {
		t.Errorf("conflict: %s", a.body)
	}
	if a := apply("two", "&force=true", "v2"); a.code != 200 || !strings.Contains(a.body, `"k":"v2"`) {
		t.Errorf("forced: %d %s", a.code, a.body)
	}
	for name, test := range map[string]struct {
		path, body, message string
		code                int
	}{
		"no manager":    {configMaps + "/b", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}", "fieldManager", 422},
		"unknown field": {configMaps + "/b?fieldManager=x", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\nspec: {}", ".spec: field not declared in schema", 400},
		"other version": {configMaps + "/b?fieldManager=x", "apiVersion: v2\nkind: ConfigMap\nmetadata: {name: b}", "", 400},
		"other name":    {configMaps + "/b?fieldManager=x", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}", "does not match the name on the URL", 400},
	} {
		a := e.do("PATCH", test.path, test.body, "Content-Type: application/apply-patch+yaml")
		if a.code != test.code || !strings.Contains(a.body, test.message) {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
}

func TestDiscoveryAndDocuments(t *testing.T) {
	e := newEnv(t)
	for path, has := range map[string]string{
		"/":               `"/apis/apps/v1"`,
		"/api":            `"serverAddress":"192.0.2.1:6443"`,
		"/api/v1":         `{"name":"pods/log","singularName":"","namespaced":true,"kind":"Pod","verbs":["get"]}`,
		"/apis":           `"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}`,
		"/apis/apps":      `"kind":"APIGroup"`,
		"/apis/apps/v1":   `{"name":"deployments/scale","singularName":"","namespaced":true,"group":"autoscaling","version":"v1","kind":"Scale"`,
		"/version":        `"gitVersion": "v1.36.3"`,
		"/openapi/v3":     `"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=`,
		"/readyz/etcd":    "ok",
		"/openapi/v2":     `"io.k8s.api.core.v1.Pod"`,
		"/apis/apps/v1/":  `"deployments"`,
		"/livez?verbose=": "ok",
	} {
		if a := e.must("GET", path, ""); !strings.Contains(a.body, has) {
			t.Errorf("%s lacks %s: %.400s", path, has, a.body)
		}
	}
	accept := "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
	a := e.must("GET", "/apis", "", accept)
	if !strings.HasPrefix(a.body, `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2"`) ||
		a.header.Get("Content-Type") != "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" {
		t.Errorf("aggregated: %v %.200s", a.header, a.body)
	}
	if again := e.do("GET", "/apis", "", accept, "If-None-Match: "+a.header.Get("ETag")); again.code != http.StatusNotModified || again.body != "" {
		t.Errorf("with the ETag: %d %.100s", again.code, again.body)
	}
}
