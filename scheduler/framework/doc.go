// Package framework is what a scheduler plugin is, and what it sees: pods with everything that scheduling asks of
// them worked out once (Pod), nodes as rows of numbers (Node), and a verdict (Status).
//
// The extension points keep upstream's names (KEP-624): a pod passes PreEnqueue before it is queued; Sort orders the
// queue; PreFilter computes what does not depend on a node; Filter says whether a node will do; Score ranks those that
// do; Bind carries the decision out. A plugin implements the smallest interfaces it needs. Filter and Score only read,
// and read only the pod, what PreFilter or PreScore left in the State, and the one node they are asked about: that is
// why verdicts can be kept for equal pods and made anew only for nodes that changed.
package framework
