// Package resource is the type every API kind is declared with.
//
// A kind is one value of Spec: its names, how it defaults and validates, which subresources it has, which columns
// `kubectl get` prints. Define turns the typed Spec into a Kind, which the rest of the apiserver works with without
// knowing any Go type: routes, discovery, OpenAPI, storage keys, watch caches, tables and field selectors all come
// from it. The versioned k8s.io/api type is the only form of an object in memory; further served versions convert at
// the edge (Version).
package resource
