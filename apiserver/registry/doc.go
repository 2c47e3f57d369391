// Package registry is what can be done with the objects of a kind: create, get, list, watch, update, delete. It is the
// same code for every kind; what differs comes from the kind's declaration, and from Hooks where a declaration is not
// enough.
//
// A write goes through these steps, top to bottom:
//
//	metadata (name, namespace, uid, times) ─▶ Prepare ─▶ admission, changing ─▶ Hooks.Reserve ─▶ defaults
//	  ─▶ rules of the kind and of metadata ─▶ admission, refusing ─▶ encode ─▶ one transaction ─▶ Hooks' Commit or Undo
//
// Updates and deletions start from the cached object and its revision: when nobody raced, that is one round trip to
// etcd. If somebody did, the transaction brings back what is there and the steps run again, unless the client named a
// resourceVersion: then it gets a Conflict. The cache may be behind, so a refusal or "not found" that rests on it is
// given only after the cache has been seen to be fresh. A write that changes nothing writes nothing.
//
// Reads are linearizable unless the client allows less with a resourceVersion; they come from the cache when that is
// fresh in time, else from etcd.
//
// Every error is a Status (k8s.io/apimachinery/pkg/api/errors) with upstream's reason, code and, where clients look at
// it, text.
package registry
