// Package fairness shares out the server by FlowSchemas and PriorityLevelConfigurations when there are more requests than
// it serves at once.
//
// A FlowSchema says to which level a request belongs, and to which flow within the level: those of one user, or of one
// namespace. A level has its share of the seats; what it does not use, up to the part that it lends, others may use. When
// a level has no seat for a request, the request waits in a queue: each flow is dealt a small hand of the level's queues
// and takes the shortest of them, and the queues are served in turn. So a flow that floods the server waits for itself.
//
// Plan is the configuration, pure and never changed; Rule follows a request to its level. Gate holds the seats and the
// queues; one lock guards them all, held for the few steps of an arrival or a departure.
//
// Differs from upstream: a request takes one seat whatever it costs; seats are lent at the moment they are wanted, not by
// an adjustment every ten seconds; queues are served in turn, not by virtual time.
package fairness
