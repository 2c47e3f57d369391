package serve

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hostileTime is how long the answer to one hostile request may take, on a busy machine.
const hostileTime = 20 * time.Second

// nested is a text that opens n brackets and closes them.
func nested(open, middle, shut string, n int) string {
	return strings.Repeat(open, n) + middle + strings.Repeat(shut, n)
}

// hostileBodies are bodies that nobody can make an object of, by their Content-Type.
func hostileBodies(t *testing.T) map[string]map[string]string {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "dev"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	message, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	whole := envelope(gvk, message)
	claims := append([]byte(protoMagic), 0x12)
	claims = binary.AppendUvarint(claims, 1<<62) // a field of more bytes than there are
	many := strings.Repeat("a", MaxBody+1)
	head := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},`
	jsonBodies := map[string]string{
		"nothing": "", "null": "null", "a number": "1", "a string": `"pod"`, "an array": "[]", "only a bracket": "{",
		"cut short":            head + `"spec":{"containers":[{"na`,
		"no kind but nonsense": `{"apiVersion":1,"kind":["Pod"]}`,
		"another kind":         `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"p"}}`,
		"another version":      `{"apiVersion":"apps/v1","kind":"Pod","metadata":{"name":"p"}}`,
		"unknown version":      `{"apiVersion":"v99","kind":"Pod"}`,
		"wrong types":          head + `"spec":{"containers":{"name":"c"},"nodeName":7}}`,
		"metadata is a list":   `{"apiVersion":"v1","kind":"Pod","metadata":[]}`,
		"an immense number":    head + `"spec":{"priority":1e999}}`,
		"deep lists":           head + `"spec":` + nested("[", "", "]", 200_000) + "}",
		"deep objects":         head + `"spec":` + nested(`{"a":`, "1", "}", 200_000) + "}",
		"ten MiB":              head + `"spec":"` + strings.Repeat("x", 10<<20) + `"}`,
		"no UTF-8":             "{\"apiVersion\":\"\xff\xfe\"}",
		"zero bytes":           strings.Repeat("\x00", 100),
		"after the end":        head + `"spec":{"containers":[{"name":"c","image":"i"}]}} {"x":1}`,
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	yamlBodies := map[string]string{
		"aliases of aliases": bomb, "an endless alias": "a: &a {b: *a}\n", "deep": nested("[", "", "]", 100_000),
		"ten MiB": "a: " + strings.Repeat("x", 10<<20), "tabs": "\t- x", "cut short": "apiVersion: v1\nkind: \"Po", "two documents": "a: 1\n---\nb: 2\n",
	}
	protoBodies := map[string]string{
		"nothing": "", "only magic": protoMagic, "no magic": string(message), "claims too much": string(claims),
		"a group never ended": protoMagic + strings.Repeat("\x0b", 10_000), "ten MiB": protoMagic + many,
		"another kind": string(envelope(corev1.SchemeGroupVersion.WithKind("Secret"), message)),
	}
	for i := len(protoMagic); i < len(whole)-len(envelopeTail); i += 7 {
		protoBodies[fmt.Sprintf("cut after %d bytes", i)] = string(whole[:i])
	}
	for i := len(whole) - len(envelopeTail) - len(message); i < len(whole)-len(envelopeTail); i += 5 {
		// Wrong wire types inside the message. What happens to be readable is left out.
		broken := bytes.Clone(whole)
		broken[i] = 0x07
		if new(corev1.Pod).Unmarshal(broken[len(whole)-len(envelopeTail)-len(message):len(whole)-len(envelopeTail)]) != nil {
			protoBodies[fmt.Sprintf("a wrong wire type at %d", i)] = string(broken)
		}
	}
	return map[string]map[string]string{
		mediaJSON: jsonBodies, mediaYAML: yamlBodies, mediaProtobuf: protoBodies,
		"application/cbor": {"cbor": "\xd9\xd9\xf7\xa0"}, "text/plain": {"text": "hello"}, "a/b/c": {"no type": "{}"},
	}
}

// Whatever is sent, the answer is a Status of 4xx, soon; and the server goes on.
func TestHostileBodies(t *testing.T) {
	e := newEnv(t)
	e.must("POST", "/api/v1/namespaces/dev/configmaps", `{"metadata":{"name":"there"},"data":{"k":"v"}}`)
	paths := []struct{ method, path string }{
		{"POST", "/api/v1/namespaces/dev/pods"}, {"PUT", "/api/v1/namespaces/dev/configmaps/there"},
		{"POST", "/api/v1/namespaces/dev/pods/p/binding"}, {"PUT", "/apis/apps/v1/namespaces/dev/deployments/d/scale"},
		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"},
	}
	for contentType, bodies := range hostileBodies(t) {
		for name, body := range bodies {
			for _, p := range paths {
				what := fmt.Sprintf("%s %s of %s: %s", p.method, p.path, contentType, name)
				e.refused(t, what, p.method, p.path, body, contentType)
			}
		}
	}
	e.must("GET", "/api/v1/namespaces/dev/configmaps/there", "")
}

func (e *env) refused(t *testing.T, what, method, path, body, contentType string) {
	t.Helper()
	begin := time.Now()
	a := e.do(method, path, body, "Content-Type: "+contentType)
	if took := time.Since(begin); took > hostileTime {
		t.Errorf("%s: took %s", what, took)
	}
	var s metav1.Status
	if err := json.Unmarshal([]byte(a.body), &s); a.code < 400 || a.code > 499 || err != nil || int(s.Code) != a.code || s.Message == "" {
		t.Errorf("%s: %d %.300s", what, a.code, a.body)
	}
}

func TestHostilePatches(t *testing.T) {
	e := newEnv(t)
	const path = "/api/v1/namespaces/dev/configmaps/there"
	e.must("POST", "/api/v1/namespaces/dev/configmaps", `{"metadata":{"name":"there"},"data":{"k":"v"}}`)
	steps := func(n int, step string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(step+",", n), ",") + "]"
	}
	for contentType, bodies := range map[string]map[string]string{
		"application/json-patch+json": {
			"nothing": "", "an object": "{}", "unknown step": `[{"op":"fly","path":"/data"}]`, "no path": `[{"op":"add"}]`,
			"nowhere": `[{"op":"replace","path":"/a/b/c","value":1}]`, "cut short": `[{"op":"add","pa`,
			"too many steps":   steps(10_001, `{"op":"add","path":"/data/k","value":"v"}`),
			"copies of copies": steps(64, `{"op":"copy","from":"/data","path":"/data/k"}`),
			"deep":             `[{"op":"add","path":"/data","value":` + nested("[", "", "]", 100_000) + `}]`,
			"the wrong type":   `[{"op":"add","path":"/data","value":[1]}]`, "ten MiB": strings.Repeat(" ", 10<<20) + "[]",
			"takes away the kind": `[{"op":"remove","path":"/kind"}]`,
		},
		"application/merge-patch+json": {
			"nothing": "", "a list": "[]", "a number": "1", "cut short": `{"data":{"k`, "wrong types": `{"data":[1]}`,
			"deep": nested(`{"a":`, "1", "}", 100_000), "another name": `{"metadata":{"name":"x"}}`, "another kind": `{"kind":"Secret"}`,
		},
		"application/strategic-merge-patch+json": {
			"nothing": "", "a list": "[]", "wrong types": `{"data":[1]}`, "cut short": `{"data"`, "unknown directive": `{"data":{"$patch":"burn"}}`,
			"deep": nested(`{"data":`, "1", "}", 50_000),
		},
		"application/apply-patch+yaml": {
			"nothing": "", "a list": "[]", "no kind": "metadata: {name: there}", "cut short": `{"apiVersion": "v1`,
			"wrong types": "{apiVersion: v1, kind: ConfigMap, metadata: {name: there}, data: [1]}", "managed fields": "{apiVersion: v1, kind: ConfigMap, metadata: {name: there, managedFields: [{manager: x}]}}",
			"an endless alias": "a: &a {b: *a}",
		},
		"application/patch": {"unknown": "{}"},
	} {
		query := ""
		if contentType == "application/apply-patch+yaml" {
			query = "?fieldManager=test"
		}
		for name, body := range bodies {
			e.refused(t, contentType+": "+name, http.MethodPatch, path+query, body, contentType)
		}
	}
	if a := e.must("GET", path, ""); !strings.Contains(a.body, `"data":{"k":"v"}`) {
		t.Errorf("after hostile patches: %s", a.body)
	}
}

func TestHostileQueries(t *testing.T) {
	e := newEnv(t)
	const path = "/api/v1/namespaces/dev/pods?"
	for _, query := range []string{
		"labelSelector=" + url.QueryEscape("a in (("), "labelSelector=" + url.QueryEscape("=,=,!!"), "labelSelector=" + strings.Repeat("a", 70),
		"fieldSelector=spec.nothing%3Dx", "continue=xyz", "continue=" + strings.Repeat("A", 5000), "limit=x",
		"resourceVersion=abc", "resourceVersion=-1", "watch=1&resourceVersion=x", "watch=1&timeoutSeconds=abc", "resourceVersionMatch=Sometimes&resourceVersion=1",
		"resourceVersionMatch=Exact", "sendInitialEvents=true&watch=1&resourceVersionMatch=Exact&resourceVersion=1", "watch=1&continue=abc&sendInitialEvents=true",
		"timeout=abc", "limit=99999999999999999999",
	} {
		e.refused(t, query, http.MethodGet, path+query, "", mediaJSON)
	}
}
