// Package policy decides which kernel map elements make the NetworkPolicies of a cluster hold on one node. It is pure: facts in, elements out.
//
// # The rule set
//
// As with services, the rules are few and fixed, and everything that varies is an element, so a packet costs the same under one policy and under
// a thousand:
//
//	server ──▶ isolated        (ingress . address) ─▶ group         only pods of this node; a miss: no policy, so all is allowed
//	client ──▶ classes         (address) ─▶ class                   what the policies' selectors make of a pod
//	       ──▶ allowed-pods    (ingress . group . class) ─▶ ports   class 0: everybody
//	       ──▶ allowed-blocks  (ingress . group . addresses) ─▶ ports
//	       ──▶ allowed-ports   (ports . protocols . port numbers)   found: allowed, else dropped
//
// and the same for egress with client and server exchanged. A group stands for all pods that one set of policies selects; a class for all pods
// that the same peer selectors match. So a pod that comes or goes is one element or two, and a policy that changes is as many as it has peers.
//
// Client and server are those of the connection, as conntrack knows them, not those of the packet: answers are judged as the question was, so
// they need no rule, and a policy that changes ends connections that it forbids with their next packet, either way, without a look through
// conntrack.
//
// # Invariants
//
//   - [Planner.Step] leaves the same elements, whatever the order and the grouping of the changes that led there.
//   - Selectors of policies that select no pod of this node cost nothing.
//   - Traffic between a pod and its own node is never touched: that is upstream's rule, so that probes work.
package policy
