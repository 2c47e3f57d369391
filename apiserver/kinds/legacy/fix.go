package legacy

import (
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
)

// fresh is an empty object of the same type.
func fresh(obj runtime.Object) runtime.Object {
	out, ok := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(runtime.Object)
	if !ok {
		panic("a pointer to the type of an object is an object")
	}
	return out
}

func both(a, b func(map[string]any)) func(map[string]any) {
	return func(doc map[string]any) { a(doc); b(doc) }
}

// at walks into nested objects; nil when there is none.
func at(doc map[string]any, path ...string) map[string]any {
	for _, name := range path {
		next, ok := doc[name].(map[string]any)
		if !ok {
			return nil
		}
		doc = next
	}
	return doc
}

// chosen selects the template's labels when nothing is selected.
func chosen(doc map[string]any) {
	spec, labels := at(doc, "spec"), at(doc, "spec", "template", "metadata", "labels")
	if spec == nil || len(labels) == 0 {
		return
	}
	if spec["selector"] == nil {
		spec["selector"] = map[string]any{"matchLabels": maps.Clone(labels)}
	}
}

// onDelete is how these kinds were updated unless they said otherwise.
func onDelete(doc map[string]any) {
	spec := at(doc, "spec")
	if spec == nil {
		return
	}
	if u := at(spec, "updateStrategy"); u == nil || u["type"] == nil || u["type"] == "" {
		spec["updateStrategy"] = map[string]any{"type": "OnDelete"}
	}
}

// backendsIn puts the backends of an Ingress where they are today.
func backendsIn(doc map[string]any) {
	spec := at(doc, "spec")
	if spec == nil {
		return
	}
	if b, ok := spec["backend"].(map[string]any); ok {
		delete(spec, "backend")
		spec["defaultBackend"] = backendIn(b)
	}
	eachPath(spec, func(path map[string]any) {
		if path["pathType"] == nil {
			path["pathType"] = "ImplementationSpecific"
		}
		if b, ok := path["backend"].(map[string]any); ok {
			path["backend"] = backendIn(b)
		}
	})
}

func backendsOut(doc map[string]any) {
	spec := at(doc, "spec")
	if spec == nil {
		return
	}
	if b, ok := spec["defaultBackend"].(map[string]any); ok {
		delete(spec, "defaultBackend")
		spec["backend"] = backendOut(b)
	}
	eachPath(spec, func(path map[string]any) {
		if b, ok := path["backend"].(map[string]any); ok {
			path["backend"] = backendOut(b)
		}
	})
}

func eachPath(spec map[string]any, visit func(map[string]any)) {
	rules, ok := spec["rules"].([]any)
	if !ok {
		return
	}
	for _, r := range rules {
		rule, ok := r.(map[string]any)
		if !ok {
			continue
		}
		paths, ok := at(rule, "http")["paths"].([]any)
		if !ok {
			continue
		}
		for _, p := range paths {
			if path, ok := p.(map[string]any); ok {
				visit(path)
			}
		}
	}
}

func backendIn(b map[string]any) map[string]any {
	out := map[string]any{}
	if r := b["resource"]; r != nil {
		out["resource"] = r
	}
	if b["serviceName"] == nil {
		return out
	}
	port := map[string]any{}
	switch p := b["servicePort"].(type) {
	case string:
		port["name"] = p
	case float64:
		port["number"] = p
	}
	out["service"] = map[string]any{"name": b["serviceName"], "port": port}
	return out
}

func backendOut(b map[string]any) map[string]any {
	out := map[string]any{}
	if r := b["resource"]; r != nil {
		out["resource"] = r
	}
	s := at(b, "service")
	if s == nil {
		return out
	}
	out["serviceName"] = s["name"]
	if port := at(s, "port"); port["name"] != nil {
		out["servicePort"] = port["name"]
	} else {
		out["servicePort"] = port["number"]
	}
	return out
}
