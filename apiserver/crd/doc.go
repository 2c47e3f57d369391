// Package crd serves the kinds that CustomResourceDefinitions declare.
//
//	definitions ──▶ Engine ─┬─▶ names: which names are free, what the conditions say     ──▶ status of the definition
//	                        ├─▶ version: schema, defaults, pruning, rules, columns        ──▶ one resource.Kind per version
//	                        ├─▶ registry.Set.Attach: a watch cache per version            ──▶ Publish: routes, discovery, OpenAPI
//	                        └─▶ cleanup: the objects of a definition that is to be deleted
//
// Objects lie in etcd as JSON in the definition's storage version, below /registry/<group>/<plural>/, as upstream writes
// them. Every served version has a kind and a watch cache of its own that holds the objects as that version shows them:
// what is stored is pruned and defaulted by the schema of its version, then converted. So selectors, columns, rules and
// status are simply those of the version, and an object is converted once per change, not once per request.
//
// Conversion by webhook asks somebody who may be slow or gone. The caches of such a kind have a feed of their own, so that
// nobody else waits for it; objects that could not be converted are tried again every other second, and until then are
// errors by name.
//
// The loop is level-based: it looks at all definitions and makes what is served the same. A definition is established only
// after its objects can be asked for.
package crd
