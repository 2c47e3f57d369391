package openapi

import (
	"reflect"
	"slices"
	"strings"
)

// pathWriter writes the paths of one entry.
type pathWriter struct {
	dialect
	entry
	models                 *Models
	model, list            *Model
	status, options, patch *Model
}

// media are the encodings that the server speaks.
var media = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}

// patches are the forms of a patch.
var patches = []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"}

// forms are the forms of a patch that the entry takes: to merge strategically needs a Go type.
func (e entry) forms() []string {
	if e.kind != nil && e.kind.Form != nil || e.obj == nil {
		return slices.DeleteFunc(slices.Clone(patches), func(f string) bool { return strings.Contains(f, "strategic") })
	}
	return patches
}

// operation is one verb on one path.
type operation struct {
	verb   string // the resource's verb: get, list, ...
	action string // x-kubernetes-action
	prefix string // of the operation id and of the description
	suffix string
	body   *Model
	answer *Model
	query  []string
}

// queries are the parameters that more than one operation takes, with their types and meaning.
var queries = map[string][2]string{
	"dryRun":               {"string", "When present, indicates that modifications should not be persisted. Valid values are: All."},
	"fieldManager":         {"string", "The name of the actor or entity that is making these changes, at most 128 printable characters."},
	"fieldValidation":      {"string", "How unknown or duplicate fields in the request are handled: Ignore, Warn (default) or Strict."},
	"force":                {"boolean", "Force an apply: take ownership of conflicting fields. Only for apply patches."},
	"labelSelector":        {"string", "A selector to restrict the list of returned objects by their labels. Defaults to everything."},
	"fieldSelector":        {"string", "A selector to restrict the list of returned objects by their fields. Defaults to everything."},
	"limit":                {"integer", "The most objects to return in one answer; the answer's continue field leads to the rest."},
	"continue":             {"string", "The token from an earlier answer whose rest is wanted."},
	"resourceVersion":      {"string", "A constraint on the resource versions that the request may be served from."},
	"resourceVersionMatch": {"string", "How resourceVersion is applied to a list: NotOlderThan or Exact."},
	"timeoutSeconds":       {"integer", "How long a list or watch may last, in seconds."},
	"watch":                {"boolean", "Watch for changes and return them as a stream of add, update and remove notifications."},
	"allowWatchBookmarks":  {"boolean", "Ask for events of type BOOKMARK in a watch."},
	"sendInitialEvents":    {"boolean", "Begin a watch with events for the objects that exist, ended by a bookmark."},
	"gracePeriodSeconds":   {"integer", "The seconds before the object is deleted; zero means at once."},
	"orphanDependents":     {"boolean", "Deprecated: use propagationPolicy."},
	"propagationPolicy":    {"string", "Whether and how dependents are deleted: Orphan, Background or Foreground."},
	"pretty":               {"string", "If 'true', the output is printed for people."},
}

var (
	writeQuery  = []string{"dryRun", "fieldManager", "fieldValidation"}
	patchQuery  = append(slices.Clone(writeQuery), "force")
	deleteQuery = []string{"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"}
	listQuery   = []string{"allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"}
)

// write adds the entry's paths: across namespaces, collection, object, status and the declared subresources.
func (w pathWriter) write(paths node) {
	root := "/" + groupPath(w.gv())
	base, scope := root+"/"+w.names.Plural, ""
	if w.kind.Scope {
		if w.list != nil {
			w.path(paths, base, operation{"list", "list", "list", "ForAllNamespaces", nil, w.list, listQuery})
		}
		base, scope = root+"/namespaces/{namespace}/"+w.names.Plural, "Namespaced"
	}
	w.path(paths, base,
		operation{"list", "list", "list" + scope, "", nil, w.list, listQuery},
		operation{"create", "post", "create" + scope, "", w.model, w.model, writeQuery},
		operation{"deletecollection", "deletecollection", "deleteCollection" + scope, "", w.options, w.status, append(slices.Clone(deleteQuery), listQuery[1:8]...)})
	object := base + "/{name}"
	w.path(paths, object,
		operation{"get", "get", "read" + scope, "", nil, w.model, nil},
		operation{"update", "put", "replace" + scope, "", w.model, w.model, writeQuery},
		operation{"patch", "patch", "patch" + scope, "", w.patch, w.model, patchQuery},
		operation{"delete", "delete", "delete" + scope, "", w.options, w.status, deleteQuery})
	if w.kind.HasStatus {
		w.subresource(paths, object+"/status", "Status", scope, w.model, []string{"get", "update", "patch"})
	}
	for _, sub := range w.kind.Subresources {
		if sub.New == nil {
			continue // a stream, described by nothing that this document could say
		}
		model := w.models.Of(reflect.TypeOf(sub.New()))
		w.subresource(paths, object+"/"+sub.Name, capital(sub.Name), scope, model, sub.Verbs)
	}
}

func (w pathWriter) subresource(paths node, path, suffix, scope string, m *Model, verbs []string) {
	sub := w
	sub.kind = nil
	var ops []operation
	for _, o := range []operation{
		{"get", "get", "read" + scope, suffix, nil, m, nil},
		{"create", "post", "create" + scope, suffix, m, m, writeQuery},
		{"update", "put", "replace" + scope, suffix, m, m, writeQuery},
		{"patch", "patch", "patch" + scope, suffix, w.patch, m, patchQuery},
	} {
		if slices.Contains(verbs, o.verb) {
			ops = append(ops, o)
		}
	}
	sub.path(paths, path, ops...)
}

// methods maps a verb to its HTTP method.
var methods = map[string]string{
	"list": "get", "get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete", "deletecollection": "delete",
}

func (w pathWriter) path(paths node, path string, ops ...operation) {
	item := node{}
	for _, o := range ops {
		if w.kind != nil && !slices.Contains(w.kind.Verbs, o.verb) || o.answer == nil {
			continue
		}
		item[methods[o.verb]] = w.operation(o)
	}
	if len(item) == 0 {
		return
	}
	params := []node{w.parameter("pretty", "query")}
	for _, name := range []string{"name", "namespace"} {
		if strings.Contains(path, "{"+name+"}") {
			params = append(params, w.parameter(name, "path"))
		}
	}
	item["parameters"] = params
	paths[path] = item
}

func (w pathWriter) operation(o operation) node {
	n := node{
		"operationId":         w.id(o),
		"description":         o.action + " " + w.names.Kind,
		"tags":                []string{strings.ToLower(title(w.gv()))},
		"x-kubernetes-action": o.action,
		"x-kubernetes-group-version-kind": node{
			"group": w.names.Group, "version": w.names.Version, "kind": w.names.Kind,
		},
	}
	var params []node
	for _, q := range o.query {
		params = append(params, w.parameter(q, "query"))
	}
	success := "200"
	if o.verb == "create" {
		success = "201"
	}
	if w.v3 {
		content := node{}
		for _, m := range media {
			content[m] = node{"schema": w.ref(o.answer)}
		}
		n["responses"] = node{success: node{"description": "OK", "content": content}, "401": node{"description": "Unauthorized"}}
		if o.body != nil {
			n["requestBody"] = node{"content": w.bodyContent(o), "required": o.verb != "delete" && o.verb != "deletecollection"}
		}
	} else {
		n["produces"], n["consumes"], n["schemes"] = media, []string{"*/*"}, []string{"https"}
		n["responses"] = node{success: node{"description": "OK", "schema": w.ref(o.answer)}, "401": node{"description": "Unauthorized"}}
		if o.verb == "patch" {
			n["consumes"] = w.forms()
		}
		if o.body != nil {
			params = append(params, node{"name": "body", "in": "body", "schema": w.ref(o.body), "required": o.verb != "delete" && o.verb != "deletecollection"})
		}
	}
	if len(params) > 0 {
		n["parameters"] = params
	}
	return n
}

func (w pathWriter) bodyContent(o operation) node {
	content := node{}
	types := []string{"*/*"}
	if o.verb == "patch" {
		types = w.forms()
	}
	for _, m := range types {
		content[m] = node{"schema": w.ref(o.body)}
	}
	return content
}

func (w pathWriter) parameter(name, in string) node {
	q, ok := queries[name]
	if !ok {
		q = [2]string{"string", name + " of the " + w.names.Kind}
	}
	n := node{"name": name, "in": in, "description": q[1]}
	if in == "path" {
		n["required"] = true
	}
	if w.v3 {
		n["schema"] = node{"type": q[0], "uniqueItems": true}
	} else {
		n["type"], n["uniqueItems"] = q[0], true
	}
	return n
}

// id is upstream's operation id, such as readCoreV1NamespacedPodStatus.
func (w pathWriter) id(o operation) string {
	verb, scoped := strings.CutSuffix(o.prefix, "Namespaced")
	id := verb + title(w.gv())
	if scoped {
		id += "Namespaced"
	}
	return id + w.names.Kind + o.suffix
}
