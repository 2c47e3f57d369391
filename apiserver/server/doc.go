// Package server builds the apiserver from its parts, starts them in order and stops them in reverse.
//
//	etcd → store → registries with their caches → routes → filters → TLS listener
//
// It is the only package that knows all the others. Start: etcd is opened, then everything else at once; the listener
// answers from the first moment, /readyz says when the rest is there. Stop: /readyz fails, watches end, open requests
// are drained, etcd is closed last; all within five seconds.
package server
