// Package etcd starts the embedded etcd member, or connects to an external etcd.
//
// A member that is alone opens no socket: the apiserver reaches it through an in-process client, by function calls. It
// listens only where Options says so, which is how it joins further members into one cluster, or lets etcdctl in.
// Every write is on disk before it is answered; there is no option to change that.
//
// A member that cannot write its log any more ends the process: it must not answer as if it could.
package etcd
