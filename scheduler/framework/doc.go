// Package framework is what a scheduler plugin is, and what it sees: pods with everything that scheduling asks of
// them worked out once (Pod), nodes as rows of numbers (Node), the cluster as one value (View), and a verdict (Status).
//
// The extension points keep upstream's names (KEP-624):
//
//	PreEnqueue ─▶ Sort ─▶ PreFilter ─▶ Filter ─┬─▶ PreScore ─▶ Score ─▶ Reserve ─▶ Permit ─▶ PreBind ─▶ Bind ─▶ PostBind
//	                                           └─▶ PostFilter, when no node will do
//
// A plugin implements the smallest interfaces it needs. Two rules make it cheap to ask the same question about
// thousands of nodes again and again:
//
//   - A verdict or score of a node may depend on the pod, on the state that PreFilter or PreScore returned, and on that
//     one node; on nothing else. So it stays true until the node changes.
//   - A plugin whose state depends on other nodes (what runs in the same zone, say) implements Follow: it is told of
//     every pod that comes or goes, corrects its state, and marks the rows for which its answer may differ now. So the
//     state stays true, too, and only those rows are asked about again.
//
// The same Follow answers "what if these pods were gone?" for preemption: it is told so, asked, and told back.
package framework
