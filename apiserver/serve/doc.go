// Package serve is the HTTP face of the registries: routes, verbs, encodings.
//
// gorilla/mux holds a dozen routes. All resources share one of them: the request's Info (package request) names an
// endpoint, which is a kind in one version, and a verb, which is a handler in a file of its own. A handler returns
// what to answer or an error; call.go turns an error into a Status, encode.go and list.go write objects, watch.go
// streams. An object is encoded once per media type and version and the bytes are shared (cache.Item.Encoded): lists
// and watches only string them together.
//
// Nothing here knows a kind by name but the Namespace, whose URLs look like namespaced ones.
package serve
