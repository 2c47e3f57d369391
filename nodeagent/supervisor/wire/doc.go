// Package wire is what the node agent and a pod's supervisor say to each other over the unix socket in the pod's
// folder. Every connection carries one request: a length-prefixed JSON Request, possibly with file descriptors beside
// it, answered by one or more Replies in the same framing. Messages only ever gain fields, so that an agent can talk to
// a supervisor that an older agent started: unknown fields are ignored, missing ones are zero. The package also names
// the files of a pod's folder, since both sides read them.
package wire
