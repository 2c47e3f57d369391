// Package cache is the watch cache: the objects of every kind in memory, what happened to them lately, and who wants to
// know.
//
//	etcd ──one watch of /registry/──▶ Feed ─┬─▶ Cache (pods)      ordered tree ─▶ Snapshot: get, list, pages
//	                                        ├─▶ Cache (services)  history      ─▶ Watcher: resume from a revision
//	                                        └─▶ ...               index        ─▶ Watcher: live events
//
// One Feed serves a store. It lists every kind at one revision, then follows one watch of everything, so all caches move
// together along the store's revisions: Feed.Wait(rev) returns when every change up to rev is in. A read that asks for
// the newest state learns the store's revision and waits for it, which makes it linearizable without reading etcd.
//
// Invariants:
//   - An Item never changes. It is decoded once and encoded at most once per form (Encoded); everybody shares it.
//   - A Snapshot never changes. Writers copy the tree nodes they touch.
//   - A Watcher gets every event after its starting point, in order, or it ends: never a silent gap. When etcd no longer
//     has the events that the feed missed, the caches are made anew, all watchers end, and older revisions get
//     "too old resource version".
//   - Nobody waits for a watcher: one that lets more than its bound of events pile up is cut off, and its client
//     resumes from where it was.
//   - The feed touches only the watchers that could want an event: they are found by name, by an indexed field such as
//     spec.nodeName, by namespace, or as those who want all.
//
// A feed that begins also asks etcd for the changes from shortly before (recall), so that the clients of a server that was
// restarted, or of another one that is gone, resume their watches where they were. While that is under way, a watch that
// begins too early waits for it.
//
// History is bounded by count and age, snapshots kept for paging by count and age, encoded forms by bytes and age.
package cache
