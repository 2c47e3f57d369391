// Package store keeps bytes under keys, with revisions; with package etcd it is the only client of etcd.
//
// Objects lie where upstream puts them: /registry/<storage key>/<namespace>/<name>, in upstream's protobuf envelope
// (Codec), so that either apiserver can open what the other wrote. A prefix always ends in a slash: a list of /pods/
// never shows /podtemplates/.
//
// Every write names the revision it starts from and fails with a Conflict, which carries what is there instead, so a
// retry needs no further read. Reads by Get and List are linearizable unless they name a revision. Errors are typed:
// ErrNotFound, ErrExists, ErrCompacted, ErrFuture, ErrTooLarge, ErrNoSpace, *Conflict; anything else is etcd's
// trouble and its outcome is unknown.
//
// Keys with a time to live share etcd leases, and revisions older than the compaction interval are dropped by the
// protocol that upstream's apiservers use among themselves.
package store
