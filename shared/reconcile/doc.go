// Package reconcile runs level-based loops: a key goes in, a function makes the world follow what the API wants for
// that key, and says when to look again.
//
// A Reconciler never sees an event. It reads its caches, assumes that they are stale, may run twice in a row without
// harm and may be stopped after any line. It has three outcomes: done (perhaps with RequeueAfter), an error, which is
// tried again with growing pauses, and Terminal, which is not.
//
// Lead runs such loops in one process of several at a time, by a Lease.
package reconcile
