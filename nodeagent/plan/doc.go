// Package plan decides what to do next for one pod: facts in, ordered actions out. It does no input or output and
// never looks at a clock, so every rule of a pod's life can be read and tested as a table.
//
//	Pod (API)  ─┐
//	Observed   ─┼─▶ Next ─▶ actions, waiting reasons, next wake time
//	Facts, Now ─┘
//
// The worker carries the actions out, changes the facts (a sandbox exists now, a hook has ended, the image cannot be
// pulled) and asks again, until there is nothing left to do. Next may be asked any number of times for the same facts
// and answers the same; an action that is under way is marked in Facts and is not asked for again.
//
// A pod's life:
//
//	sandbox and volumes ─▶ init containers in order, sidecars among them stay ─▶ containers, all at once
//	  ▲ restarts with growing delay                                                │
//	  └──────────────────────── exits, failed probes ◀─────────────────────────────┘
//	deletion, deadline, rejection or completion ─▶ kill with grace (containers, then sidecars in reverse)
//	  ─▶ final status is in the API ─▶ sandbox, then volumes go ─▶ the object is deleted, if that was asked for
//
// Invariants: nothing starts once a pod is ending; the sandbox of a finished pod goes only after its final status has
// been stored; a container is never killed twice for the same reason; SIGKILL is only sent after the grace period.
package plan
