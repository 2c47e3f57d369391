// Package integration tests the whole apiserver, as a process with its etcd, over the wire: what happens when it is
// killed, fed with nonsense, starved of room or told to stop. There is no product code in it.
package integration
