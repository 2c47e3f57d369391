// Package e2e walks a user's paths through a whole cluster: 'make up', the real kubectl, client-go, real containers,
// 'make down'. It needs root and the build tag e2e; 'make test' runs it.
//
// The tests bring the cluster up themselves, with everything below .hardway/e2e, and take it down when they are done;
// what a cluster must not leave behind is checked before and after (test/leftovers). HARDWAY_KEEP=1 leaves the cluster
// running for a look at it. With HARDWAY_STATE=<folder> the tests use the cluster of that folder, which is running
// already, and leave it.
//
// Tests wait for conditions with deadlines and never sleep. Each works in a namespace of its own.
package e2e
