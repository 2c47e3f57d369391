package openapi

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/resource"
)

// entry is one kind in one served version, as the documents show it.
type entry struct {
	kind  *resource.Kind
	names resource.Names
	obj   reflect.Type
	list  reflect.Type // nil when the kind cannot be listed
}

func (e entry) gv() schema.GroupVersion {
	return schema.GroupVersion{Group: e.names.Group, Version: e.names.Version}
}

func (e entry) gvk() schema.GroupVersionKind { return e.gv().WithKind(e.names.Kind) }

// entries lists every kind in every served version.
func entries(kinds []*resource.Kind) []entry {
	var all []entry
	for _, k := range kinds {
		if k.Form != nil {
			all = append(all, entry{kind: k, names: k.Names})
			continue
		}
		e := entry{kind: k, names: k.Names, obj: reflect.TypeOf(k.New()).Elem()}
		if slices.Contains(k.Verbs, "list") {
			e.list = reflect.TypeOf(k.NewList()).Elem()
		}
		all = append(all, e)
		for _, v := range k.Versions {
			n := v.Names
			if n.Plural == "" {
				n.Plural = k.Plural
			}
			further := entry{kind: k, names: n, obj: reflect.TypeOf(v.New()).Elem()}
			if v.NewList != nil && e.list != nil {
				further.list = reflect.TypeOf(v.NewList()).Elem()
			}
			all = append(all, further)
		}
	}
	return all
}

// describe builds the document of some entries.
func describe(d dialect, list []entry) node {
	models, served := NewModels(), kindsOf{}
	paths := node{}
	status, options := models.Of(reflect.TypeFor[metav1.Status]()), models.Of(reflect.TypeFor[metav1.DeleteOptions]())
	patch := models.Of(reflect.TypeFor[metav1.Patch]())
	schemas := node{}
	for _, e := range list {
		if e.kind.Form != nil {
			w := pathWriter{dialect: d, entry: e, model: &Model{Name: customName(e.gvk())}, list: &Model{Name: customName(e.gv().WithKind(e.names.List))},
				status: status, options: options, patch: patch, models: models}
			w.write(paths)
			schemas[w.model.Name], schemas[w.list.Name] = d.custom(e, models), d.customList(e, w.model, models)
			continue
		}
		served[e.obj] = append(served[e.obj], e.gvk())
		w := pathWriter{dialect: d, entry: e, model: models.Of(e.obj), status: status, options: options, patch: patch, models: models}
		if e.list != nil {
			listName := e.names.List
			if listName == "" {
				listName = e.names.Kind + "List"
			}
			served[e.list] = append(served[e.list], e.gv().WithKind(listName))
			w.list = models.Of(e.list)
		}
		w.write(paths)
		for _, t := range []reflect.Type{reflect.TypeFor[metav1.Status](), reflect.TypeFor[metav1.DeleteOptions]()} {
			kind := e.gv().WithKind(t.Name())
			if t.Name() == "Status" {
				kind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}
			}
			if !slices.Contains(served[t], kind) {
				served[t] = append(served[t], kind)
			}
		}
		for _, sub := range e.kind.Subresources {
			if sub.New != nil {
				t := reflect.TypeOf(sub.New()).Elem()
				if !slices.Contains(served[t], sub.Kind) {
					served[t] = append(served[t], sub.Kind)
				}
			}
		}
	}
	for _, m := range models.All() {
		schemas[m.Name] = d.model(m, served[m.Go])
	}
	info := node{"title": "Kubernetes", "version": documentVersion}
	if d.v3 {
		return node{"openapi": "3.0.0", "info": info, "paths": paths, "components": node{"schemas": schemas}}
	}
	return node{"swagger": "2.0", "info": info, "paths": paths, "definitions": schemas}
}

// groupPath is the URL below which a version lies: api/v1, apis/apps/v1.
func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}

// title turns apps/v1 into AppsV1, as operation ids have it.
func title(gv schema.GroupVersion) string {
	group := "core"
	if gv.Group != "" {
		group, _, _ = strings.Cut(gv.Group, ".")
	}
	return capital(group) + capital(gv.Version)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
