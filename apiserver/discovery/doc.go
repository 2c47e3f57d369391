// Package discovery answers what clients ask about kinds: which groups and versions there are, which resources lie in
// them and what each can do. Everything comes from the declarations (resource.Kind); nothing is listed twice.
//
// Two forms are served: the plain one (/api, /apis, /apis/<group>, /apis/<group>/<version>) and the aggregated one, a
// single document with an ETag, so that a client asks once and later hears "not modified".
package discovery
