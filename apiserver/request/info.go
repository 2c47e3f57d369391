package request

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/fields"
)

// Info is what a URL asks for, in upstream's words.
type Info struct {
	// Path is the URL's path as sent, decoded.
	Path string
	// Verb is get, list, watch, create, update, patch, delete, deletecollection or proxy for a resource, and the
	// lower-case HTTP method for anything else.
	Verb string
	// IsResource is false for /healthz, /api, /apis/<group>/<version> and the like.
	IsResource bool
	// Group is empty for the core group.
	Group, Version string
	// Namespace is empty for resources outside namespaces and for requests across all namespaces. For a Namespace
	// itself it is the namespace's own name.
	Namespace                   string
	Resource, Subresource, Name string
	// Parts is the path from the resource on: resource, name, subresource and whatever follows.
	Parts []string
	// LegacyWatch says that the URL was of the old form /api/v1/watch/...
	LegacyWatch bool
	// Fields is the field selector of a list, a watch or a deletecollection; nil without one, or with a bad one.
	Fields fields.Selector
}

// errShortPath is what a path gets that ends after /watch or /proxy.
var errShortPath = errors.New("unable to determine kind and namespace from url")

// Parse reads method and URL. The Info is as complete as it can be even with an error.
func Parse(r *http.Request) (*Info, error) {
	info := &Info{Path: r.URL.Path, Verb: strings.ToLower(r.Method)}
	parts := split(r.URL.Path)
	if len(parts) < 3 {
		return info, nil
	}
	switch parts[0] {
	case "api":
		parts = parts[1:]
	case "apis":
		if len(parts) < 4 {
			return info, nil
		}
		info.Group, parts = parts[1], parts[2:]
	default:
		return info, nil
	}
	info.IsResource, info.Version, parts = true, parts[0], parts[1:]
	info.Verb = methodVerb(r.Method)
	if parts[0] == "proxy" || parts[0] == "watch" {
		if len(parts) < 2 {
			return info, fmt.Errorf("%w, %v", errShortPath, r.URL)
		}
		info.Verb, parts = parts[0], parts[1:]
		info.LegacyWatch = info.Verb == "watch"
	}
	info.resource(parts)
	info.sharpen(r.URL)
	return info, nil
}

func split(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func methodVerb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// resource reads namespaces/{namespace}/{resource}/{name}/{subresource}/... or the same without a namespace. The
// paths namespaces/{name}/status and namespaces/{name}/finalize are subresources of the Namespace.
func (i *Info) resource(parts []string) {
	if parts[0] == "namespaces" && len(parts) > 1 {
		i.Namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	i.Parts = parts
	i.Resource = parts[0]
	if len(parts) > 1 {
		i.Name = parts[1]
	}
	if len(parts) > 2 && i.Verb != "proxy" {
		i.Subresource = parts[2]
	}
}

// sharpen tells list and watch from get, and deletecollection from delete. A list that selects one metadata.name
// carries that name, so that it can be authorized like a get.
func (i *Info) sharpen(u *url.URL) {
	if i.Name != "" {
		return
	}
	switch i.Verb {
	case "delete":
		i.Verb = "deletecollection"
	case "get":
		i.Verb = "list"
	case "watch": // of the old form
	default:
		return
	}
	if u.RawQuery == "" {
		return
	}
	query := u.Query()
	if i.Verb == "list" && Flag(query, "watch") {
		i.Verb = "watch"
	}
	sel, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil || sel.Empty() {
		return
	}
	i.Fields = sel
	if name, ok := sel.RequiresExactMatch("metadata.name"); ok && i.Verb != "deletecollection" && len(content.IsPathSegmentName(name)) == 0 {
		i.Name = name
	}
}

// Flag reads a boolean of the query as upstream does: present means true, unless it is "false" or "0".
func Flag(query url.Values, name string) bool {
	values, ok := query[name]
	if !ok || len(values) == 0 {
		return false
	}
	switch strings.ToLower(values[0]) {
	case "false", "0":
		return false
	}
	return true
}

// APIVersion is group and version as in apiVersion.
func (i *Info) APIVersion() string {
	if i.Group == "" {
		return i.Version
	}
	return i.Group + "/" + i.Version
}

// LongRunning says that the request is meant to last: it has no deadline and counts in no limit of requests in flight.
func (i *Info) LongRunning() bool {
	if !i.IsResource {
		return strings.HasPrefix(i.Path, "/debug/pprof/") || strings.HasPrefix(i.Path, "/debug/etcd/")
	}
	switch i.Verb {
	case "watch", "proxy":
		return true
	}
	switch i.Subresource {
	case "attach", "exec", "proxy", "log", "portforward":
		return true
	}
	return false
}

// Mutating says that the request may change something.
func (i *Info) Mutating() bool {
	switch i.Verb {
	case "get", "list", "watch", "head", "options":
		return false
	}
	return true
}
