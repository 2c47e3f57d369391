// Package node keeps this machine's Node object: it registers it, reports what the machine has and how it is, and
// renews its Lease.
//
// Reads the kernel (memory, disks, processes), the Node object of its own by watch, and what the other parts report
// (network ready, images). Writes the Node and its status, and a Lease in kube-node-lease. Status is a pure function of
// those facts and is written when it changed, and otherwise every few minutes; the Lease is what says "alive".
package node
