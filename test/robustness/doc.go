// Package robustness breaks a cluster on purpose and proves from the outside that nothing was lost: the cluster of
// docs/the-hard-way.md on machines with systemd, clients that record every request and every watch event, faults from a
// plan that a seed decides, and checkers that read only the records. 'make robustness SEED=n MINUTES=m' runs it.
//
// The plan (Plan) and the checkers (Registers, Watches, Runs) are pure and tested beside the code; README.md lists the
// faults, what is not done and why, and the bugs found.
package robustness
