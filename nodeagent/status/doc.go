// Package status turns what is known of a pod into its API status, and is the only writer of pod status on the node.
//
// Compute is pure: pod, observation and the previous status in, the next status out; the wording of reasons and
// messages is upstream's, because people and programs match on it. Writer sends statuses: in parallel for different
// pods, in order for one pod, never reading first, the newest status only, and a pod's first Ready before anything
// that merely reports progress. A status that equals what is stored is not sent, so a restarted agent writes nothing.
package status
