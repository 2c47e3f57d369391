// Package plan decides which kernel map elements make the Services of a cluster work on one node. It is pure: facts in, elements out; no clock,
// no I/O.
//
// # The rule set
//
// The rules themselves are few and fixed; everything that varies with the number of services lives in hash maps, so the cost of a packet does
// not depend on how many services there are, and a change costs as much as the elements it touches:
//
//	packet ──▶ vips        (address . protocol . port)  ─▶ shape, group
//	           node-ports  (protocol . port)            ─▶ shape, group        only if the address is the node's
//	shape  ──▶ chain of that shape: choose an index below N at random
//	           endpoints   (group . index)              ─▶ address . port      then DNAT
//
// A shape is "how": the number of endpoints, masquerading, session affinity. All services with three endpoints and no options share the chain
// "vips-3", so neither a new service nor a moved endpoint touches a chain, and the kernel need not check the rule set again (that check walks
// all chains and all verdict maps, and is what makes one chain per service slow). A chain appears with the first service of its shape and goes
// with the last.
//
// # Invariants
//
//   - [Planner.Step] leaves the same elements, whatever the order and the grouping of the changes that led there.
//   - A step names only elements that differ from the step before; a step without difference is empty.
//   - The list of endpoints of a group is ordered by address, so a restarted planner comes to the same indexes and finds the kernel as it
//     should be.
//   - Where services claim one address, one of them has it as a whole; see [Planner].
package plan
