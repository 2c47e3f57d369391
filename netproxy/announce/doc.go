// Package announce makes one node of the cluster answer for each address of a load balancer.
//
// Which node it is stands in a Lease per address, kube-system/lb-<address>, whose holder is the node's name. A Lease changes only when the
// address moves; that a holder lives it says by renewing one Lease of its own, kube-system/announcer-<node>, every 0.7 s while it holds any
// address, so the number of writes grows with the nodes that hold something and not with the addresses. A holder whose renewals were not seen for
// 2 s, on the watcher's own clock, has lost its addresses to whoever writes the Lease first; each node waits a different little while, by
// address, so that addresses spread.
//
// Who loses an address without noticing stops answering: the kernel takes the address away unless it is held anew every 3 s (package
// kernel/address), and a proxy that lives lets go when it sees another holder. A proxy that cannot reach the API goes on holding what it has, for
// nobody else can have it written then, unless it is alone in that: then two nodes answer until it can be told.
//
// Services with externalTrafficPolicy Local are announced by nodes with an endpoint only. Nodes that are not ready, about to go, or labelled
// node.kubernetes.io/exclude-from-external-load-balancers announce nothing.
package announce
